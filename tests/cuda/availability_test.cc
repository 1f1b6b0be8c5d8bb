// Which GPUs there are, and why none: each reason by its own words, before a byte of a model moves.
#include "tests/cuda/fake.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

std::string reason() { return unavailable_reason(Device::cuda, DSV32_CUDA_MODULE); }

// What a load says, and unavailable_reason() in the same words; no GPU is listed.
void check_unavailable(const std::string& part) {
  INFO(part);
  const std::string message =
      check_error(ErrorCode::unsupported, part, [] { static_cast<void>(load_on_gpu()); });
  CHECK(reason() == message);
  CHECK(available_backends(DSV32_CUDA_MODULE).size() == 1);
}

TEST_CASE("every GPU is listed with what it is", "[quick]") {
  const Fake fake;
  CHECK(reason().empty());
  const auto all = available_backends(DSV32_CUDA_MODULE);
  REQUIRE(all.size() == 3);
  CHECK(all[0].device == Device::cpu);
  for (int i = 0; i < 2; ++i) {
    const BackendInfo& gpu = all[static_cast<std::size_t>(i) + 1];
    CHECK(gpu.device == Device::cuda);
    CHECK(gpu.device_index == i);
    CHECK(gpu.name.find("emulator") != std::string::npos);
    CHECK(gpu.memory_bytes > std::size_t{1} << 30);
    CHECK(gpu.kernel_sets == std::vector<std::string>{"smxx"});
  }
  CHECK(fake.live("context") == 0);  // looking is not taking
}

TEST_CASE("a driver that is a stub, too old, or without a GPU that will do, is told apart",
          "[quick]") {
  const Fake fake;
  fake.set("stub", 1);
  check_unavailable("is a stub");
  fake.reset();
  fake.set("version", 12090);
  check_unavailable("too old: it is for CUDA 12.9, R580 (CUDA 13.0) or newer");
  fake.reset();
  fake.set("devices", 0);
  check_unavailable("there is no NVIDIA GPU");
  fake.reset();
  fake.set("major", 7);
  fake.set("minor", 5);
  check_unavailable("has compute capability 7.5, 8.0 or newer is needed");
  fake.reset();
  fake.fail("cuInit", 1, 803);
  check_error(ErrorCode::unsupported, "does not start: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
              [] { static_cast<void>(load_on_gpu()); });
  CHECK(reason().empty());
}

TEST_CASE("a GPU that is not there, and a kernel set that is not, are refused by name", "[quick]") {
  const Fake fake;
  for (const int index : {-1, 2}) {
    check_error(ErrorCode::invalid_argument, "device_index is " + std::to_string(index),
                [&] { static_cast<void>(Model::load(golden("fp8"), small(on_gpu(index)))); });
  }
  BackendOptions options = on_gpu();
  options.kernel_set = "avx2";
  check_error(ErrorCode::unsupported, "kernel set \"avx2\" for CUDA in this build",
              [&] { static_cast<void>(Model::load(golden("fp8"), small(options))); });
  options.kernel_set = "smxx";
  CHECK(Model::load(golden("fp8"), small(options)).kernel_set() == "smxx");
}

// The emulated GPU has no machine code: what it is given for one that it claims to be does not fit.
TEST_CASE("code that the GPU does not take is unsupported, and nothing is left", "[quick]") {
  const Fake fake;
  fake.set("major", 9);
  fake.set("minor", 0);
  check_error(ErrorCode::unsupported, "loading kernels dense (sm_90)",
              [] { static_cast<void>(load_on_gpu()); });
  check_nothing_lives(fake);
  fake.reset();
  fake.fail("cuModuleLoadDataEx", 3, 222);  // the third file's
  check_error(ErrorCode::unsupported, "(PTX)", [] { static_cast<void>(load_on_gpu()); });
  check_clean(fake);
}

TEST_CASE("a plan for a GPU says what lies where, and a load takes that much", "[quick]") {
  const Fake fake;
  const Checkpoint checkpoint = Checkpoint::open(golden("fp8"));
  PlanOptions options{.device = Device::cuda,
                      .module_path = DSV32_CUDA_MODULE,
                      .kv_cache_tokens = 512,
                      .max_batch_tokens = 32,
                      .max_sequences = 4};
  const Plan plan = checkpoint.plan(options);
  CHECK(plan.fits);
  CHECK(plan.device_bytes == plan.weight_bytes + plan.kv_cache_bytes + plan.activation_bytes);
  CHECK(plan.host_bytes >= std::size_t{1} << 20);
  REQUIRE(plan.device_available_bytes);
  CHECK(*plan.device_available_bytes > std::size_t{1} << 30);
  options.access = FileAccess::read;
  CHECK(checkpoint.plan(options).host_bytes > plan.host_bytes);
  CHECK(checkpoint.plan(options).device_bytes == plan.device_bytes);
  options.device_memory_bytes = 1000;
  const Plan tight = checkpoint.plan(options);
  CHECK_FALSE(tight.fits);
  CHECK(tight.reason.find("1000 B are available on the device") != std::string::npos);
  options.device_memory_bytes = 0;
  options.memory_bytes = 1000;
  CHECK(checkpoint.plan(options).reason.find("of the host's memory, 1000 B are available") !=
        std::string::npos);
  const Model model = load_on_gpu();
  CHECK(model.memory_usage().weight_bytes == plan.weight_bytes);
  CHECK(model.memory_usage().activation_bytes == plan.activation_bytes);
  const auto taken = fake.live("device");
  CHECK(taken >= plan.device_bytes);
  CHECK(taken < plan.device_bytes + (std::size_t{1} << 20));  // each matrix begins at 256 bytes
}

TEST_CASE("a model that a GPU has no room for is refused with both numbers", "[quick]") {
  const Fake fake;
  fake.set("memory", 1 << 20);
  const std::string message = check_error(ErrorCode::out_of_memory, "are available on the device",
                                          [] { static_cast<void>(load_on_gpu()); });
  for (const char* part : {"weights ", "cache ", "activations ", "too few"})
    CHECK(message.find(part) != std::string::npos);
  check_clean(fake);
}

}  // namespace
}  // namespace dsv32::test
