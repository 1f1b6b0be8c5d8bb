// Results as lines on the terminal, as JSON and as CSV.
#ifndef DSV32_BENCHMARKS_REPORT_H_
#define DSV32_BENCHMARKS_REPORT_H_

#include <string>
#include <vector>

#include "benchmarks/harness.h"

namespace dsv32::bench {

struct Outcome {
  const Row* row;
  std::string table;  // kernel set that it ran with
  bool best_table;    // only then has it a goal
  Result result;
  double seconds = 0;  // that it took, with making its data

  bool has_goal() const { return best_table && row->goal > 0; }
  bool counts() const { return has_goal() && !result.skipped; }  // among rows at goal or not
  bool has_value() const { return result.missed.empty(); }
  double attained() const;  // part of the goal, 1 or more: at goal; 0 without a value
  std::string verdict() const;
};

struct Circumstances {
  std::string machine, compiler, commit, command, date;
};
// `commit` and `command` come from bench.sh through the environment; else they are what is known.
Circumstances circumstances(int argc, char** argv);

std::string number(double x);  // three or four digits
std::string heading();
std::string line(const Outcome& outcome);
std::string summary(const std::vector<Outcome>& outcomes);

std::string to_json(const Circumstances& about, const Bench& bench,
                    const std::vector<Outcome>& outcomes);
std::string to_csv(const std::vector<Outcome>& outcomes);

}  // namespace dsv32::bench

#endif  // DSV32_BENCHMARKS_REPORT_H_
