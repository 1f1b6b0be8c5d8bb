// How a backend in a shared object of its own is found and opened, what is refused, and that what
// it throws arrives.
#include <filesystem>
#include <new>
#include <string>

#include "lib/backend/backend_kind.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

BackendOptions with(const std::filesystem::path& module) {
  return {.device = Device::cuda, .module_path = module};
}

void open(const BackendOptions& options) {
  static_cast<void>(backend_kind(Device::cuda).open(options));
}

TEST_CASE("a plug-in that is not there is named, and the CPU goes on") {
  check_error(ErrorCode::unsupported, "there is no libdsv32_cuda.so (\"/no/such/file.so\")",
              [] { open(with("/no/such/file.so")); });
  CHECK(unavailable_reason(Device::cuda, "/no/such/file.so").find("/no/such/file.so") !=
        std::string::npos);
  CHECK(unavailable_reason(Device::cpu).empty());
  const auto all = available_backends("/no/such/file.so");
  REQUIRE(all.size() == 1);
  CHECK(all[0].device == Device::cpu);
}

TEST_CASE("a folder, and a file that is no shared object, are no plug-in") {
  const TempFolder folder;
  check_error(ErrorCode::unsupported, "there is no libdsv32_cuda.so",
              [&] { open(with(folder.path())); });
  const auto file = folder.path() / "plugin.so";
  write_text(file, "not ELF");
  check_error(ErrorCode::unsupported, "cannot be opened", [&] { open(with(file)); });
}

TEST_CASE("a shared object that is no plug-in, and one of another build, do not belong together") {
  check_error(ErrorCode::mismatch, "is no plug-in of this library",
              [] { open(with(DSV32_TEST_NO_PLUGIN)); });
  check_error(ErrorCode::mismatch, "is of build \"another\"",
              [] { open(with(DSV32_TEST_OTHER_PLUGIN)); });
  CHECK(available_backends(DSV32_TEST_OTHER_PLUGIN).size() == 1);
}

TEST_CASE("what a plug-in throws arrives as what it is, from each of its functions") {
  const BackendKind& kind = backend_kind(Device::cuda);
  BackendOptions options = with(DSV32_TEST_THROWING_PLUGIN);
  CHECK_THROWS_AS(kind.open(options), std::bad_alloc);
  options.device_index = 7;
  check_error(ErrorCode::device, "open 7, from the plug-in", [&] { kind.open(options); });
  check_error(ErrorCode::unsupported, "shapes, from the plug-in", [&] { kind.shapes(options); });
  check_error(ErrorCode::internal, "scratch, from the plug-in",
              [&] { kind.scratch_bytes({}, options); });
  check_error(ErrorCode::out_of_memory, "memory, from the plug-in",
              [&] { kind.available_memory(options); });
  CHECK(unavailable_reason(Device::cuda, DSV32_TEST_THROWING_PLUGIN) == "shapes, from the plug-in");
  CHECK(available_backends(DSV32_TEST_THROWING_PLUGIN).size() == 1);
}

TEST_CASE("a plug-in is never looked for in the current folder, nor by the loader's own rules") {
  const TempFolder folder;
  std::filesystem::copy(DSV32_TEST_THROWING_PLUGIN, folder.path() / "libdsv32_cuda.so");
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const std::string reason = unavailable_reason(Device::cuda);
  const std::string relative = unavailable_reason(Device::cuda, "libdsv32_cuda.so");
  std::filesystem::current_path(before);
  CHECK(reason.find("from the plug-in") == std::string::npos);
  CHECK(relative == "shapes, from the plug-in");  // a path is a path
}

}  // namespace
}  // namespace dsv32::test
