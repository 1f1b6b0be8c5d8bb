#include "tests/ptxemu/fake_world.h"

#include <algorithm>
#include <cstring>

namespace dsv32::fakecuda::test {
namespace {

// A kernel over words, of which `body` makes %r7 from p[i] in %r7 and v in %r1.
std::string kernel(const std::string& name, const std::string& body) {
  return ".visible .entry " + name + R"((
  .param .u64 p, .param .u64 v, .param .u32 n
)
{
  .reg .pred %p<2>;
  .reg .b32 %r<8>;
  .reg .b64 %rd<7>;
  ld.param.u64 %rd1, [p];
  ld.param.u64 %rd5, [v];
  ld.param.u32 %r2, [n];
  cvt.u32.u64 %r1, %rd5;
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mov.u32 %r5, %tid.x;
  mad.lo.s32 %r6, %r3, %r4, %r5;
  setp.ge.u32 %p1, %r6, %r2;
  @%p1 bra done;
  cvta.to.global.u64 %rd2, %rd1;
  mul.wide.u32 %rd3, %r6, 4;
  add.s64 %rd4, %rd2, %rd3;
)" + body +
         R"(
  st.global.u32 [%rd4], %r7;
done:
  ret;
}
)";
}

}  // namespace

const std::string& module_text() {
  static const std::string text =
      "//\n// Written by hand\n//\n.version 7.0\n.target sm_80\n.address_size 64\n\n"
      ".global .align 4 .b8 table[16] = {1, 0, 0, 0, 2};\n" +
      kernel("add", "  ld.global.u32 %r7, [%rd4];\n  add.s32 %r7, %r7, %r1;") +
      kernel("multiply", "  ld.global.u32 %r7, [%rd4];\n  mul.lo.s32 %r7, %r7, %r1;") +
      kernel("move",
             "  cvta.to.global.u64 %rd5, %rd5;\n  add.s64 %rd6, %rd5, %rd3;\n"
             "  ld.global.u32 %r7, [%rd6];");
  return text;
}

const FakeDriver& api() {
  static const FakeDriver driver(dlopen(DSV32_FAKE_LIBCUDA, RTLD_NOW | RTLD_LOCAL));
  REQUIRE(driver.missing.empty());
  return driver;
}

World::World() {
  api().reset();
  REQUIRE(api().cuInit(0) == success);
  REQUIRE(api().cuDevicePrimaryCtxRetain(&context, 0) == success);
  REQUIRE(api().cuCtxPushCurrent_v2(context) == success);
  REQUIRE(api().cuModuleLoadData(&module, module_text().c_str()) == success);
  REQUIRE(api().cuModuleGetFunction(&add_, module, "add") == success);
  REQUIRE(api().cuModuleGetFunction(&multiply_, module, "multiply") == success);
  REQUIRE(api().cuModuleGetFunction(&move_, module, "move") == success);
  stream = make_stream();
}

World::~World() {
  if (!broken_) {
    for (std::uint32_t* address : pinned_) CHECK(api().cuMemFreeHost(address) == success);
    for (const DevicePointer address : memory_) CHECK(api().cuMemFree_v2(address) == success);
    for (const Handle each : streams_) CHECK(api().cuStreamDestroy_v2(each) == success);
    if (module != nullptr) CHECK(api().cuModuleUnload(module) == success);
  }
  Handle popped = nullptr;
  CHECK(api().cuCtxPopCurrent_v2(&popped) == success);
  CHECK(popped == context);
  CHECK(api().cuDevicePrimaryCtxRelease_v2(0) == success);
  CHECK(api().findings_text() == "");
  for (const char* kind :
       {"device", "host", "module", "stream", "event", "graph", "exec", "context"}) {
    INFO(kind);
    CHECK(api().live(kind) == 0);
  }
}

Handle World::make_stream(unsigned flags) {
  Handle made = nullptr;
  REQUIRE(api().cuStreamCreate(&made, flags) == success);
  streams_.push_back(made);
  return made;
}

DevicePointer World::allocate(std::size_t bytes) {
  DevicePointer made = 0;
  REQUIRE(api().cuMemAlloc_v2(&made, bytes) == success);
  memory_.push_back(made);
  return made;
}

DevicePointer World::make_words(const Words& values) {
  const DevicePointer made = allocate(values.size() * 4);
  REQUIRE(api().cuMemcpyHtoD_v2(made, values.data(), values.size() * 4) == success);
  return made;
}

std::uint32_t* World::pin(const Words& values) {
  void* made = nullptr;
  REQUIRE(api().cuMemHostAlloc(&made, values.size() * 4, 0) == success);
  std::memcpy(made, values.data(), values.size() * 4);
  pinned_.push_back(static_cast<std::uint32_t*>(made));
  return pinned_.back();
}

void World::free(DevicePointer address) {
  CHECK(api().cuMemFree_v2(address) == success);
  std::erase(memory_, address);
}

void World::unpin(std::uint32_t* address) {
  CHECK(api().cuMemFreeHost(address) == success);
  std::erase(pinned_, address);
}

Words World::read(DevicePointer address, std::size_t count) {
  Words out(count);
  CHECK(api().cuMemcpyDtoHAsync_v2(out.data(), address, count * 4, stream) == success);
  return out;
}

Result World::launch(Handle function, DevicePointer p, std::uint64_t v_or_q, unsigned n,
                     Handle into) {
  void* parameters[] = {&p, &v_or_q, &n};
  return api().cuLaunchKernel(function, (n + 63) / 64, 1, 1, 64, 1, 1, 0, into, parameters,
                              nullptr);
}

void World::expect_findings(const std::string& part) {
  const std::string text = api().findings_text();
  INFO("findings: " << text);
  CHECK(text.find(part) != std::string::npos);
  api().clear_findings();
}

}  // namespace dsv32::fakecuda::test
