// What a backend in a shared object of its own may lean on: base, whose objects it links, and the
// kernels' formats, which are headers alone.
#include <cstdint>
#include <cstring>
#include <string>

#include "lib/base/check.h"
#include "lib/base/tensor.h"

#include "kernels/params.h"

namespace {

// The bytes of a page of index keys, and what is wrong with a view that is no such page.
std::string fault_of(const dsv32::TensorView& page, const dsv32::kernels::CacheLayout& layout) {
  try {
    DSV32_CHECK(page.cols == layout.index_page(), internal, "a page of {} bytes, not {}", page.cols,
                layout.index_page());
  } catch (const dsv32::Error& error) {
    return error.code() == dsv32::ErrorCode::internal ? error.what() : "another code";
  }
  return {};
}

}  // namespace

// Writes a message of at most `size` bytes.
extern "C" __attribute__((visibility("default"))) void plugin_probe(std::int64_t cols, char* out,
                                                                    std::size_t size) {
  const dsv32::kernels::CacheLayout layout{dsv32::kernels::CacheLayout::Format::fp8, 512, 64, 128};
  const dsv32::TensorView pages{
      .data = nullptr, .dtype = dsv32::DType::u8, .rows = 4, .cols = cols, .stride = cols};
  std::strncpy(out, fault_of(pages.slice(1, 2), layout).c_str(), size);
}
