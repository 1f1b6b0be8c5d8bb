#include "lib/text/format_markers.h"

#include <span>
#include <string_view>

#include "lib/base/check.h"
#include "lib/text/markers.h"

namespace dsv32 {
namespace {

constexpr std::string_view kBoth[] = {markers::kBos,       markers::kEos,   markers::kUser,
                                      markers::kAssistant, markers::kThink, markers::kEndThink};
constexpr std::string_view kV32Tools[] = {markers::kDsml};
constexpr std::string_view kV31Tools[] = {
    markers::kCallsBegin,  markers::kCallsEnd,  markers::kCallBegin, markers::kCallEnd,
    markers::kOutputBegin, markers::kOutputEnd, markers::kSeparator};

}  // namespace

void check_markers(const Tokenizer& tokenizer, ChatFormat format) {
  const auto check = [&](std::span<const std::string_view> list) {
    for (const std::string_view marker : list) {
      // An entry of the vocabulary alone would not do: text is looked through for added tokens.
      DSV32_CHECK(tokenizer.encode(marker, true).size() == 1 && tokenizer.find(marker), mismatch,
                  "tokenizer.json has no token for {}, a marker of the chat format {}", marker,
                  format == ChatFormat::v31 ? "v31" : "v32");
    }
  };
  check(kBoth);
  if (format == ChatFormat::v32) check(kV32Tools);
  if (format == ChatFormat::v31) check(kV31Tools);
}

}  // namespace dsv32
