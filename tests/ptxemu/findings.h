// Findings of one launch, gathered: one a kind and PTX line, with the text of the first time.
#ifndef DSV32_TESTS_PTXEMU_FINDINGS_H_
#define DSV32_TESTS_PTXEMU_FINDINGS_H_

#include <cstdint>
#include <map>
#include <utility>

#include "tests/ptxemu/machine.h"

namespace dsv32::ptxemu {

struct Place {  // who and where
  unsigned block = 0, thread = 0;
  int line = 0;
};

class Findings {
 public:
  explicit Findings(std::uint32_t ignored) : ignored_(ignored) {}

  // Counts one that is there already or ignored: no text is needed.
  bool again(Kind kind, int line);
  void add(Kind kind, const Place& place, const std::string& text);
  std::vector<Finding> take() { return std::move(list_); }

 private:
  std::uint32_t ignored_;
  std::vector<Finding> list_;
  std::map<std::pair<Kind, int>, std::size_t> seen_;  // where in the list
};

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_FINDINGS_H_
