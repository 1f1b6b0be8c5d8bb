// Files that stand where another one should.
#ifndef DSV32_LIB_BASE_WRONG_FILE_H_
#define DSV32_LIB_BASE_WRONG_FILE_H_

#include <string_view>

namespace dsv32 {

// What a file that begins with `head` is, and the remedy, if it is of a kind that often lands in a
// checkpoint's folder in place of JSON or safetensors: "a git LFS pointer, ...". Else empty.
std::string_view wrong_file(std::string_view head);

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_WRONG_FILE_H_
