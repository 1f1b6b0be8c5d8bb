// Runs rows and writes what came out. See --help.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/report.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

constexpr const char* kUsage =
    "usage: dsv32-bench [options] [ROW...]    ROW: a row's name, or its beginning\n"
    "  --smoke         tiny shapes: everything runs, no figure means anything\n"
    "  --json FILE     also write FILE, and FILE with the ending .csv\n"
    "  --kernels NAME  another kernel set than the best\n"
    "  --all-tables    kernel rows for the other sets, too, without goals\n"
    "  --seconds S     about so long for each measurement (4)\n"
    "  --list          the rows, their shapes and goals\n";

struct Arguments {
  Settings settings;
  std::string json;
  bool all_tables = false, list = false, help = false;
  std::vector<std::string> rows;
};

Arguments parse(int argc, char** argv) {
  Arguments out;
  const auto value = [&](int& i) -> std::string {
    DSV32_CHECK(i + 1 < argc, invalid_argument, "{} needs a value", argv[i]);
    return argv[++i];
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--smoke") {
      out.settings.smoke = true;
    } else if (arg == "--json") {
      out.json = value(i);
    } else if (arg == "--kernels") {
      out.settings.kernels = value(i);
    } else if (arg == "--all-tables") {
      out.all_tables = true;
    } else if (arg == "--seconds") {
      out.settings.seconds = std::atof(value(i).c_str());
    } else if (arg == "--list") {
      out.list = true;
    } else if (arg == "--help") {
      out.help = true;
    } else {
      DSV32_CHECK(!arg.starts_with("-"), invalid_argument, "no such option: {}", arg);
      out.rows.emplace_back(arg);
    }
  }
  return out;
}

std::vector<const Row*> chosen(const std::vector<std::string>& names) {
  std::vector<const Row*> out;
  const auto matches = [](const Row& row, const std::string& name) {
    return std::string_view(row.name).starts_with(name);
  };
  for (const std::string& name : names) {
    DSV32_CHECK(std::any_of(all_rows().begin(), all_rows().end(),
                            [&](const Row& row) { return matches(row, name); }),
                not_found, "no row begins with {}", name);
  }
  for (const Row& row : all_rows()) {
    if (names.empty() || std::any_of(names.begin(), names.end(),
                                     [&](const std::string& name) { return matches(row, name); }))
      out.push_back(&row);
  }
  return out;
}

Result run_row(const Row& row, Bench& bench) {
  try {
    return row.run(bench);
  } catch (const std::exception& error) {
    return missed(error.what());
  }
}

void run_rows(const std::vector<const Row*>& rows, Bench& bench, bool best,
              std::vector<Outcome>& outcomes) {
  for (const Row* row : rows) {
    if (!best && !row->per_table) continue;
    const double start = now();
    outcomes.push_back({.row = row,
                        .table = bench.kernel_set(),
                        .best_table = best,
                        .result = run_row(*row, bench)});
    outcomes.back().seconds = now() - start;
    std::printf("%s\n", line(outcomes.back()).c_str());
    std::fflush(stdout);
  }
}

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  DSV32_CHECK(file.flush().good(), io, "could not write {}", path);
}

void list_rows(const std::vector<const Row*>& rows) {
  for (const Row* row : rows) {
    std::printf("%-32s %9s  %s; %s\n", row->name.c_str(),
                row->goal > 0 ? number(row->goal).c_str() : "-", row->unit.c_str(),
                row->shape.c_str());
  }
}

void run_all(const Arguments& arguments, const std::vector<const Row*>& rows,
             const Circumstances& about) {
  const kernels::CpuTables tables = kernels::runnable_cpu_tables();
  Bench bench(arguments.settings);
  std::printf("machine  %s\ncompiler %s\ncommit   %s\ncommand  %s\nkernels  %s\n\n%s\n",
              about.machine.c_str(), about.compiler.c_str(), about.commit.c_str(),
              about.command.c_str(), bench.kernel_set().c_str(), heading().c_str());
  std::vector<Outcome> outcomes;
  run_rows(rows, bench, bench.kernel_set() == tables.tables[0]->name, outcomes);
  // The last table is the double-precision reference: nobody runs it for speed.
  for (int i = 1; arguments.all_tables && i + 1 < tables.count; ++i) {
    Settings settings = arguments.settings;
    settings.kernels = tables.tables[i]->name;
    Bench other(settings);
    run_rows(rows, other, false, outcomes);
  }
  std::printf("\n%s\n", arguments.settings.smoke ? "smoke: the figures above mean nothing"
                                                 : summary(outcomes).c_str());
  if (arguments.json.empty()) return;
  write(arguments.json, to_json(about, bench, outcomes));
  const std::size_t dot = arguments.json.rfind(".json");
  write(arguments.json.substr(0, dot) + ".csv", to_csv(outcomes));
}

}  // namespace
}  // namespace dsv32::bench

int main(int argc, char** argv) {
  try {
    const dsv32::bench::Arguments arguments = dsv32::bench::parse(argc, argv);
    if (arguments.help) {
      std::fputs(dsv32::bench::kUsage, stdout);
      return 0;
    }
    const std::vector<const dsv32::bench::Row*> rows = dsv32::bench::chosen(arguments.rows);
    if (arguments.list) {
      dsv32::bench::list_rows(rows);
      return 0;
    }
    dsv32::bench::run_all(arguments, rows, dsv32::bench::circumstances(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n%s", error.what(), dsv32::bench::kUsage);
    return 1;
  }
}
