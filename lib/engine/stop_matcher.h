// Finds stop strings in text that arrives in pieces.
#ifndef DSV32_LIB_ENGINE_STOP_MATCHER_H_
#define DSV32_LIB_ENGINE_STOP_MATCHER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dsv32 {

// The earliest match wins; at the same place the longest. Text that may still become a stop string
// is held back.
class StopMatcher {
 public:
  // Throws invalid_argument for an empty string, limit for more than 1,024 or over 64 KiB in all.
  explicit StopMatcher(std::vector<std::string> strings);

  std::string push(std::string_view text);           // what became final
  std::string flush();                               // the rest, if nothing matched
  std::size_t held() const { return held_.size(); }  // bytes held back
  bool matched() const { return !match_.empty(); }
  const std::string& match() const { return match_; }

 private:
  std::size_t held_from() const;

  std::vector<std::string> strings_;
  std::size_t longest_ = 0;
  std::string held_;
  std::string match_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_STOP_MATCHER_H_
