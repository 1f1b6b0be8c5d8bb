// Text from files and stdin: all of it, or an error.
#ifndef EXAMPLES_CLI_TEXT_INPUT_H_
#define EXAMPLES_CLI_TEXT_INPUT_H_

#include <cstddef>
#include <string>

namespace cli {

// More of a descriptor that may be non-blocking, as a shared terminal's or a pipe's can be: waits,
// and returns 0 at the end alone. Throws std::runtime_error with the system's reason; `name` is for
// its message.
std::size_t read_some(int fd, char* bytes, std::size_t size, const std::string& name);

// A terminal that hands out whole lines cuts them here without a word.
constexpr std::size_t kTypedLine = 4095;

// A file, or stdin for "-", without a byte order mark. Throws std::runtime_error for what cannot be
// read, a typed line that was cut, and UTF-16.
std::string read_file(const std::string& path);

// Takes a byte order mark off; throws std::runtime_error for UTF-16 and UTF-32.
void take_mark_off(std::string& text, const std::string& name);

}  // namespace cli

#endif  // EXAMPLES_CLI_TEXT_INPUT_H_
