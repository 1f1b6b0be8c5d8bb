// dsv32_conformance: runs known answers against the library. See scripts/conformance.sh.
// Exit codes: 0 good, 1 a failure or a refusal (a typed error), 2 wrong usage, 3 a defect of ours.
#include <cstdio>
#include <exception>
#include <map>

#include "dsv32/error.h"

#include "tests/conformance/conformance.h"

namespace {
constexpr int kDefect = 3;
}

int main(int argc, char** argv) try {
  using namespace dsv32::conformance;
  const std::map<std::string, int (*)(const Args&)> commands = {
      {"chat", run_chat},   {"stream", run_stream}, {"tokenizer", run_tokenizer},
      {"model", run_model}, {"file", run_file},     {"parse", run_parse}};
  const auto command = argc > 1 ? commands.find(argv[1]) : commands.end();
  if (command == commands.end()) {
    std::fprintf(stderr, "usage: %s chat|stream|tokenizer|model|file|parse ...\n", argv[0]);
    return 2;
  }
  return command->second(Args(argv + 2, argv + argc));
} catch (const dsv32::conformance::UsageError& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 2;
} catch (const dsv32::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return error.code() == dsv32::ErrorCode::internal ? kDefect : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "defect: %s\n", error.what());
  return kDefect;
}
