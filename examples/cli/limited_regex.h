// A regular expression from a user, run where it can do no harm.
#ifndef EXAMPLES_CLI_LIMITED_REGEX_H_
#define EXAMPLES_CLI_LIMITED_REGEX_H_

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace cli {

// ECMAScript's. A process of its own searches, and is killed when the time is up or it needs too
// much memory or stack: some expressions take for ever, and std::regex calls itself a level a
// character.
class LimitedRegex {
 public:
  explicit LimitedRegex(std::string expression, std::chrono::milliseconds limit)
      : expression_(std::move(expression)), limit_(limit) {}

  // Throws std::runtime_error with what is wrong with the expression, or that it takes too long.
  void check() const { static_cast<void>(run("", true)); }
  // The last match's first group, or all of it if there is none; none if nothing matches, or the
  // time is up.
  std::optional<std::string> last_match(std::string_view text) const { return run(text, false); }

 private:
  std::optional<std::string> run(std::string_view text, bool check) const;

  std::string expression_;
  std::chrono::milliseconds limit_;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_LIMITED_REGEX_H_
