#include "benchmarks/report.h"

#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>

#include <nlohmann/json.hpp>

#include "dsv32/backend.h"

#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr double kFloor = 0.7;    // of its goal that every row must reach
constexpr double kShare = 0.85;   // of the rows that must be at their goal
constexpr int kThreadsShown = 2;  // limits are measured for 1..this

std::string environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

// The text behind `key` and a colon in a file of /proc.
std::string proc_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    const std::size_t colon = text.find(':');
    if (text.starts_with(key) && colon != std::string::npos && colon + 2 <= text.size())
      return text.substr(colon + 2);
  }
  return "";
}

std::string machine() {
  const BackendInfo cpu = available_backends().front();
  const double gib = static_cast<double>(cpu.memory_bytes) / (1 << 30);
  return formatted("{} (family {}, model {}), {} cores used, {:.0f} GiB; read {}, compute {}",
                   cpu.name, proc_value("/proc/cpuinfo", "cpu family"),
                   proc_value("/proc/cpuinfo", "model\t"), usable_cores(), gib, isa().read,
                   isa().compute);
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string csv_field(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

}  // namespace

double Outcome::attained() const {
  if (!has_value() || !(row->goal > 0)) return 0;
  const double x = row->higher_is_better ? result.value / row->goal : row->goal / result.value;
  return x == x ? x : 0;
}

std::string Outcome::verdict() const {
  if (result.skipped) return "skipped";
  if (!has_value()) return "missed";
  if (!has_goal()) return "no goal";
  if (attained() >= 1) return "at goal";
  if (attained() >= kFloor) return formatted("{:.0f} % of goal", 100 * attained());
  return formatted("BELOW, {:.0f} % of goal", 100 * attained());
}

Circumstances circumstances(int argc, char** argv) {
  std::string command;
  for (int i = 0; i < argc; ++i) command += std::string(i > 0 ? " " : "") + argv[i];
  const std::time_t seconds = std::time(nullptr);
  char date[32];
  std::tm parts{};
  std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", gmtime_r(&seconds, &parts));
  return {.machine = machine(),
          .compiler = compiler(),
          .commit = environment("DSV32_BENCH_COMMIT", "unknown"),
          .command = environment("DSV32_BENCH_COMMAND", command),
          .date = date};
}

std::string number(double x) {
  const double size = std::fabs(x);
  if (size != 0 && (size < 0.001 || size >= 1e7)) return formatted("{:.3g}", x);
  return size >= 1000 ? formatted("{:.0f}", x) : formatted("{:.{}f}", x, size >= 100 ? 1 : 3);
}

std::string heading() {
  return formatted("{:<32} {:>9} {:>9}  {:<16} {}", "row", "value", "goal", "verdict", "note");
}

std::string line(const Outcome& o) {
  const std::string name = o.best_table ? o.row->name : o.row->name + " [" + o.table + "]";
  const std::string value = o.has_value() ? number(o.result.value) : "-";
  const std::string goal =
      o.has_goal() ? (o.row->higher_is_better ? "" : "<=") + number(o.row->goal) : "-";
  return formatted("{:<32} {:>9} {:>9}  {:<16} {}{}{}", name, value, goal, o.verdict(),
                   o.has_value() ? o.row->unit : o.result.missed, o.result.note.empty() ? "" : "; ",
                   o.result.note);
}

std::string summary(const std::vector<Outcome>& outcomes) {
  int goals = 0, reached = 0, below = 0, missing = 0, skipped = 0;
  double minutes = 0;
  for (const Outcome& o : outcomes) {
    minutes += o.seconds / 60;
    skipped += o.result.skipped ? 1 : 0;
    if (!o.counts()) continue;
    ++goals;
    missing += o.has_value() ? 0 : 1;
    reached += o.attained() >= 1 ? 1 : 0;
    below += o.has_value() && o.attained() < kFloor ? 1 : 0;
  }
  if (goals == 0) return "no row has a goal";
  const bool accepted = reached >= kShare * goals && below == 0;
  return formatted(
      "{} of {} rows at goal ({:.0f} %), {} below 70 % of it, {} without a value: {} (85 % at goal "
      "and none below 70 %); {} skipped; {:.1f} minutes",
      reached, goals, 100.0 * reached / goals, below, missing,
      accepted ? "accepted" : "not accepted", skipped, minutes);
}

std::string to_json(const Circumstances& about, const Bench& bench,
                    const std::vector<Outcome>& outcomes) {
  nlohmann::ordered_json out;
  out["machine"] = about.machine;
  out["compiler"] = about.compiler;
  out["commit"] = about.commit;
  out["command"] = about.command;
  out["date"] = about.date;
  out["kernel_set"] = bench.kernel_set();
  for (int threads = 1; threads <= kThreadsShown; ++threads) {
    const std::string suffix = formatted("_{}t", threads);
    if (bench.best_read(threads) > 0)
      out["limits"]["dram_bytes_per_second" + suffix] = bench.best_read(threads);
    if (bench.best_compute(threads) > 0)
      out["limits"]["operations_per_second" + suffix] = bench.best_compute(threads);
  }
  out["rows"] = nlohmann::ordered_json::array();
  for (const Outcome& o : outcomes) {
    nlohmann::ordered_json row;
    row["name"] = o.row->name;
    row["value"] = o.has_value() ? nlohmann::ordered_json(o.result.value) : nullptr;
    row["goal"] = o.has_goal() ? nlohmann::ordered_json(o.row->goal) : nullptr;
    row["unit"] = o.row->unit;
    row["higher_is_better"] = o.row->higher_is_better;
    row["shape"] = o.row->shape;
    row["table"] = o.table;
    row["verdict"] = o.verdict();
    row["note"] = o.has_value() ? o.result.note : o.result.missed;
    row["basis"] = o.row->basis;
    row["seconds"] = std::round(o.seconds * 10) / 10;
    out["rows"].push_back(row);
  }
  return out.dump(1) + "\n";
}

std::string to_csv(const std::vector<Outcome>& outcomes) {
  std::string out = "name,value,goal,unit,higher_is_better,shape,table,verdict,note\n";
  for (const Outcome& o : outcomes) {
    out +=
        formatted("{},{},{},{},{},{},{},{},{}\n", o.row->name,
                  o.has_value() ? formatted("{}", o.result.value) : "",
                  o.has_goal() ? formatted("{}", o.row->goal) : "", csv_field(o.row->unit),
                  o.row->higher_is_better, csv_field(o.row->shape), o.table, csv_field(o.verdict()),
                  csv_field(o.has_value() ? o.result.note : o.result.missed));
  }
  return out;
}

}  // namespace dsv32::bench
