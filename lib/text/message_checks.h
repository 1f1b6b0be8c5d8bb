// What a conversation must keep to, whichever format renders it.
#ifndef DSV32_LIB_TEXT_MESSAGE_CHECKS_H_
#define DSV32_LIB_TEXT_MESSAGE_CHECKS_H_

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "dsv32/chat_template.h"

#include "lib/base/json.h"

namespace dsv32 {

// What one message may hold; beyond it: limit. A response format counts as a tool.
inline constexpr std::size_t kMaxTools = 1000;
inline constexpr std::size_t kMaxToolBytes = std::size_t{512} << 10;
inline constexpr std::size_t kMaxCalls = 1000;
inline constexpr std::size_t kMaxArgumentBytes = std::size_t{8} << 20;  // of one call
inline constexpr std::size_t kMaxParameters = 10'000;                   // of one call
inline constexpr std::size_t kMaxNameBytes = 256;

// Roles, fields that their role does not have, numbers and sizes. Throws invalid_argument, limit.
void check_messages(std::span<const Message> messages);

// Names of tools and parameters stand raw between quotes or markers: 1 to kMaxNameBytes bytes of
// UTF-8 without control characters, '"', '<', '>' and U+FF5C. Throws invalid_argument.
void check_name(std::string_view name, std::string_view what);

// Tool k of message i: the value of "function", or the object itself. Throws bad_format, limit.
Json declared_function(std::span<const Message> messages, std::size_t i, std::size_t k);

// The arguments of call k of message i, an object; blank text is an empty one. A lone surrogate,
// which models write, becomes U+FFFD, and `log` hears of it.
Json arguments_of(std::span<const Message> messages, std::size_t i, std::size_t k,
                  const LogSink& log);
// Only what JSON calls white space, or nothing.
bool is_blank(std::string_view text);

// The run of tool messages around message i, and the calls that it answers.
struct ResultRun {
  std::size_t begin = 0, end = 0;  // messages [begin, end)
  std::size_t calls = 0;
  // Message indices in the order of their calls: results with an id go to their call's place, the
  // others to the places left.
  std::vector<std::size_t> order{};

  bool complete() const { return end - begin == calls; }
};
// Throws invalid_argument for a result without its call, with an id that no call or another result
// has, or that belongs in front of one that is in the context (messages below `context`).
ResultRun result_run(std::span<const Message> messages, std::size_t i, std::size_t context);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_MESSAGE_CHECKS_H_
