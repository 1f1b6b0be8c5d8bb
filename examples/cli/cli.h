// What the subcommands share: options, exit codes, the model they name.
#ifndef EXAMPLES_CLI_CLI_H_
#define EXAMPLES_CLI_CLI_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "dsv32/dsv32.h"

#include "cli/interrupt.h"
#include "cli/terminal.h"

namespace cli {

// What the program returns. Scripts depend on these.
enum Exit : int {
  kOk = 0,
  kFailure = 1,
  kUsage = 2,
  kBadModel = 3,    // missing, malformed, or the wrong family
  kDoesNotFit = 4,  // memory, cache or context
  kNoDevice = 5,    // this machine or build cannot
  kInterrupted = 130
};

// Something that the user typed is wrong: exit code 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

int exit_code(dsv32::ErrorCode code) noexcept;
// What to do about it inside of a conversation; empty if the message says all.
const char* advice(dsv32::ErrorCode code) noexcept;
// The same for the end of the error line of any subcommand, with those options that it has.
std::string advice(const dsv32::Error& error, const CLI::App& root);
std::string memory_advice(const CLI::App& root);

// A model whose weights alone are more than this machine has: no size of ours helps.
struct WeightsDoNotFit : dsv32::Error {
  using dsv32::Error::Error;
};

// Before any subcommand's own.
struct GlobalOptions {
  bool json = false;
  bool quiet = false;
  std::string color = "auto";
};

struct ModelOptions {
  std::string model{};               // -m
  std::vector<std::string> words{};  // positionals: the model, what follows it
  std::size_t ctx = 32768;
  std::size_t batch = 2048;
  int threads = 0;
  int drafts = 0;
  std::string kernels{};
  std::string device = "cpu";
  std::string numerics = "native";
  std::string kv = "fp8";
  std::string indexer = "fp8";
  std::string access = "mmap";
  std::string verify = "scales";
  std::string chat_format{};
  bool preload = false;
  bool require_sparse = false;
  bool allow_paging = false;
  bool allow_unused = false;
};

struct SamplingOptions {
  CLI::App* app = nullptr;  // to see which options were given
  dsv32::SamplingParams params{};
  bool greedy = false;
  std::string seed{};  // a number; -1 = a fresh one
  std::size_t max_tokens = 0;
  std::size_t think_budget = 0;
  bool loop = false;
  std::vector<std::string> stop{};
};

// One run of the program.
struct Context {
  GlobalOptions options{};
  std::function<int()> run{};  // the chosen subcommand
};

void add_chat(CLI::App& root, Context& context);
void add_generate(CLI::App& root, Context& context);
void add_batch(CLI::App& root, Context& context);
void add_best_of(CLI::App& root, Context& context);
void add_tokenize(CLI::App& root, Context& context);
void add_inspect(CLI::App& root, Context& context);
void add_info(CLI::App& root, Context& context);
void add_trace(CLI::App& root, Context& context);
void add_make_model(CLI::App& root, Context& context);
void add_quantize(CLI::App& root, Context& context);

// -m and the positionals. `rest` describes what follows the model: "" = nothing may.
void add_model_name(CLI::App& app, ModelOptions& options, const char* rest = "");
void add_access(CLI::App& app, ModelOptions& options);        // --access
void add_numerics(CLI::App& app, ModelOptions& options);      // it, --threads --kernels ..
void add_load_options(CLI::App& app, ModelOptions& options);  // the above and sizes, access, ..
void add_drafts(CLI::App& app, ModelOptions& options);        // --drafts
void add_sampling(CLI::App& app, SamplingOptions& options);

// The folder that -m, the first word or DSV32_MODEL names; drops that word. If there may be other
// words, a single one is the model only when nothing else names one.
std::filesystem::path take_model(ModelOptions& options, bool other_words = false);
dsv32::LoadOptions load_options(const ModelOptions& options);
// The files alone, with --access and --threads.
dsv32::Checkpoint open_checkpoint(const std::filesystem::path& dir, const ModelOptions& options,
                                  const Terminal& terminal);
// Loads with progress on stderr; Ctrl-C gives up.
dsv32::Model load_model(const std::filesystem::path& dir, dsv32::LoadOptions options,
                        const Terminal& terminal, const Interrupt& interrupt);
// Before anything is loaded: throws for values that no model could take.
void check_sampling(const SamplingOptions& options);
// The model's own sampling, changed by the options that were given.
dsv32::GenerateOptions generate_options(const SamplingOptions& options, const dsv32::Model& model);
dsv32::GenerateOptions generate_options(const SamplingOptions& options,
                                        const dsv32::SamplingParams& own);

// A whole file, or stdin for "-", without a byte order mark. Throws UsageError if it cannot be
// read, or is UTF-16.
std::string read_text(const std::string& path);
// The prompt: words joined by spaces, or the file, or stdin. Throws UsageError if there is none.
std::string read_prompt(const std::vector<std::string>& words, const std::string& file);
// A JSON list of token ids. Throws UsageError.
std::vector<dsv32::TokenId> parse_ids(const std::string& text);

// The shell's completion script, from the options that `root` knows.
std::string completion(const CLI::App& root, const std::string& shell);

}  // namespace cli

#endif  // EXAMPLES_CLI_CLI_H_
