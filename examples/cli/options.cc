// Options that several subcommands share, and what they become.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "cli/cli.h"
#include "cli/hub.h"
#include "cli/json_text.h"
#include "cli/text_input.h"

namespace cli {
namespace {

constexpr std::size_t kDefaultMaxTokens = 32768;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// CLI11's own check lists the choices in its message.
template <typename Value>
Value choose(const std::map<std::string, Value>& choices, const std::string& name) {
  return choices.at(name);
}

// Words that an option takes: the library's own names.
template <typename Value>
std::map<std::string, Value> choices(std::initializer_list<Value> values) {
  std::map<std::string, Value> result;
  for (const Value value : values) result.emplace(dsv32::to_string(value), value);
  return result;
}

const auto kNumerics = choices({dsv32::Numerics::native, dsv32::Numerics::exact});
const auto kKvFormats = choices({dsv32::KvFormat::fp8, dsv32::KvFormat::bf16});
const auto kIndexerKeys = choices({dsv32::IndexerKeys::fp8, dsv32::IndexerKeys::int8});
const auto kAccess = choices({dsv32::FileAccess::mmap, dsv32::FileAccess::read});
const auto kVerify = choices({dsv32::Verify::headers, dsv32::Verify::scales, dsv32::Verify::all});
const auto kChatFormats =
    choices({dsv32::ChatFormat::v32, dsv32::ChatFormat::v32_speciale, dsv32::ChatFormat::v31});

template <typename Value>
CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& target,
                        const std::map<std::string, Value>& choices, const std::string& help) {
  std::vector<std::string> names;
  for (const auto& [key, value] : choices) names.push_back(key);
  return app.add_option(name, target, help)->check(CLI::IsMember(names));
}

// All of it, or nothing: no sign, no rest, nothing that a number of this size cannot hold.
std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stopped != end) return std::nullopt;
  return value;
}

using DeviceChoice = std::pair<dsv32::Device, int>;

DeviceChoice best_device() {
  for (const dsv32::BackendInfo& backend : dsv32::available_backends()) {
    if (backend.device == dsv32::Device::cuda) return {backend.device, backend.device_index};
  }
  return {dsv32::Device::cpu, 0};
}

// What --device says, if it says something: auto, cpu, cuda, cuda:N.
std::optional<DeviceChoice> device_of(std::string_view text) {
  if (text == "auto") return best_device();
  if (text == dsv32::to_string(dsv32::Device::cpu)) return DeviceChoice(dsv32::Device::cpu, 0);
  const std::string_view cuda = dsv32::to_string(dsv32::Device::cuda);
  if (!text.starts_with(cuda)) return std::nullopt;
  text.remove_prefix(cuda.size());
  if (text.empty()) return DeviceChoice(dsv32::Device::cuda, 0);
  const auto index = text.front() == ':' ? whole_number(text.substr(1)) : std::nullopt;
  if (!index || *index > std::uint64_t{std::numeric_limits<int>::max()}) return std::nullopt;
  return DeviceChoice(dsv32::Device::cuda, static_cast<int>(*index));
}

// 8192, 8k, 8 KiB: units of 1024.
std::optional<std::uint64_t> size_value(std::string_view text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto value = whole_number(text.substr(0, digits));
  std::string_view unit = text.substr(digits);
  unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
  std::string name(unit);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name.ends_with('b')) name.pop_back();
  if (name.size() == 2 && name[1] == 'i') name.pop_back();
  const std::size_t power = std::string_view("kmgt").find(name);
  if (!value || (!name.empty() && (name.size() > 1 || power == std::string_view::npos))) return {};
  const auto shift = static_cast<unsigned>(name.empty() ? 0 : 10 * (power + 1));
  if (*value > (std::numeric_limits<std::uint64_t>::max() >> shift)) return std::nullopt;
  return *value << shift;
}

// `unlimited`: what -1 means, where it means something.
void add_size(CLI::App& app, const std::string& name, std::size_t& target, const std::string& help,
              std::optional<std::size_t> unlimited = {}) {
  const auto read = [unlimited](std::string& text) {
    const auto value = unlimited && text == "-1" ? unlimited : size_value(text);
    if (!value)
      return "'" + text + "' is not a size such as 8192 or 8k" +
             (unlimited ? std::string(", nor -1") : std::string());
    text = std::to_string(*value);
    return std::string();
  };
  app.add_option(name, target,
                 help + (unlimited ? " (8192 or 8k; -1 = no limit)" : " (8192 or 8k)"))
      ->transform(CLI::Validator(read, ""))
      ->type_name("SIZE");
}

}  // namespace

int exit_code(dsv32::ErrorCode code) noexcept {
  using dsv32::ErrorCode;
  switch (code) {
    case ErrorCode::invalid_argument:
      return kUsage;
    case ErrorCode::not_found:
    case ErrorCode::bad_format:
    case ErrorCode::limit:
    case ErrorCode::mismatch:
      return kBadModel;
    case ErrorCode::out_of_memory:
    case ErrorCode::capacity:
    case ErrorCode::context_length:
      return kDoesNotFit;
    case ErrorCode::unsupported:
    case ErrorCode::device:
      return kNoDevice;
    case ErrorCode::cancelled:
      return kInterrupted;
    default:
      return kFailure;
  }
}

const char* advice(dsv32::ErrorCode code) noexcept {
  using dsv32::ErrorCode;
  switch (code) {
    case ErrorCode::bad_format:
    case ErrorCode::mismatch:
      return "`dsv32 inspect MODEL` lists all that is wrong with it";
    case ErrorCode::out_of_memory:
      return "a smaller --ctx or --batch needs less; see `dsv32 inspect`";
    case ErrorCode::capacity:
      return "a larger --ctx makes room";
    case ErrorCode::context_length:
      return "shorten the prompt";
    case ErrorCode::unsupported:
      return "`dsv32 info` shows what this machine and build can do";
    case ErrorCode::internal:
      return "this is a bug; please report it";
    default:
      return "";
  }
}

namespace {

// Of these options those that the called subcommand has: "--ctx or --batch".
std::string those_of(const CLI::App& root, std::initializer_list<const char*> names) {
  std::string text;
  for (const CLI::App* app : root.get_subcommands())
    for (const char* name : names)
      if (app->get_option_no_throw(name) != nullptr)
        text += (text.empty() ? "" : " or ") + std::string(name);
  return text;
}

}  // namespace

std::string memory_advice(const CLI::App& root) {
  const std::string sizes = those_of(root, {"--ctx", "--batch", "--chunk"});
  return sizes.empty() ? "" : "a smaller " + sizes + " needs less";
}

std::string advice(const dsv32::Error& error, const CLI::App& root) {
  using dsv32::ErrorCode;
  if (dynamic_cast<const WeightsDoNotFit*>(&error) != nullptr) {
    const std::string paging = those_of(root, {"--allow-paging"});
    return "the weights alone are too many: `dsv32 quantize` writes a smaller copy" +
           (paging.empty() ? "" : ", " + paging + " reads them from the disk again and again");
  }
  switch (error.code()) {
    case ErrorCode::out_of_memory:
      return memory_advice(root);
    case ErrorCode::capacity:
      return those_of(root, {"--ctx"}).empty() ? "" : advice(error.code());
    case ErrorCode::context_length:
      return root.got_subcommand("chat") ? advice(error.code()) : "a shorter text fits";
    default:
      return advice(error.code());
  }
}

void add_model_name(CLI::App& app, ModelOptions& options, const char* rest) {
  app.add_option("-m,--model", options.model,
                 "Folder, file in it, or org/name[@revision] in the Hugging Face cache; "
                 "DSV32_MODEL is the default")
      ->type_name("MODEL");
  const std::string words = std::string("The model, unless -m names it") +
                            (*rest == '\0' ? "" : std::string("; then ") + rest);
  app.add_option("words", options.words, words)->type_name("MODEL");
}

void add_access(CLI::App& app, ModelOptions& options) {
  add_choice(app, "--access", options.access, kAccess, "How weights are read");
}

void add_numerics(CLI::App& app, ModelOptions& options) {
  app.add_option("--threads", options.threads, "CPU threads; 0 = this process's cores")
      ->check(CLI::Range(0, 4096));
  app.add_option("--device", options.device,
                 "cpu; cuda or cuda:1, a GPU; auto: the first GPU that runs here, else the CPU")
      ->check(CLI::Validator(
          [](std::string& text) {
            return text == "auto" || device_of(text)
                       ? std::string()
                       : "'" + text + "' is not one of auto, cpu, cuda, cuda:N";
          },
          ""))
      ->type_name("DEVICE:{auto,cpu,cuda}");
  app.add_option("--kernels", options.kernels, "Kernel set by name, as in `dsv32 info`");
  add_choice(app, "--numerics", options.numerics, kNumerics,
             "native: the model's own rounding; exact: fp32");
  add_choice(app, "--kv", options.kv, kKvFormats, "How keys are cached");
  add_access(app, options);
  add_choice(app, "--indexer", options.indexer, kIndexerKeys,
             "The indexer's keys; int8: faster, may choose other keys");
  app.add_flag("--allow-unused", options.allow_unused, "Ignore tensors that no one needs");
}

void add_load_options(CLI::App& app, ModelOptions& options) {
  add_numerics(app, options);
  add_size(app, "--ctx", options.ctx, "Tokens that fit into the cache");
  add_size(app, "--batch", options.batch, "Most tokens in one pass");
  add_choice(app, "--verify", options.verify, kVerify, "How much is checked while loading");
  add_choice(app, "--chat-format", options.chat_format, kChatFormats,
             "Instead of what the tokenizer says");
  app.add_flag("--preload", options.preload, "Read every weight before the first token");
  app.add_flag("--require-sparse", options.require_sparse, "Refuse a model without an indexer");
  app.add_flag("--allow-paging", options.allow_paging, "Load although memory is short");
}

void add_drafts(CLI::App& app, ModelOptions& options) {
  app.add_option("--drafts", options.drafts,
                 "Most tokens that MTP drafts ahead, while that pays; changes no answer")
      ->check(CLI::Range(0, 4));
}

void add_sampling(CLI::App& app, SamplingOptions& options) {
  options.app = &app;
  dsv32::SamplingParams& params = options.params;
  app.add_option("--temp", params.temperature, "Temperature; 0 = greedy");
  app.add_option("--top-p", params.top_p, "Smallest set of tokens with this probability");
  app.add_option("--top-k", params.top_k, "The k best tokens; 0 = no limit");
  app.add_option("--min-p", params.min_p, "Least probability, relative to the best");
  app.add_option("--repetition-penalty", params.repetition_penalty, "Of prompt and output");
  app.add_option("--presence-penalty", params.presence_penalty, "Of output");
  app.add_option("--frequency-penalty", params.frequency_penalty, "Of output");
  for (const char* name : {"--temp", "--top-p", "--top-k", "--min-p", "--repetition-penalty",
                           "--presence-penalty", "--frequency-penalty"})
    app.get_option(name)->default_str("the model's own");
  app.add_flag("--greedy", options.greedy, "The same as --temp 0");
  app.add_option("--seed", options.seed, "Same seed, same answer; -1 = a fresh one")
      ->check(CLI::Validator(
          [](std::string& text) {
            return text == "-1" || whole_number(text)
                       ? std::string()
                       : "'" + text + "' is not a number from 0 to 18446744073709551615, nor -1";
          },
          ""))
      ->type_name("UINT")
      ->default_str("drawn");
  options.max_tokens = kDefaultMaxTokens;
  add_size(app, "-n,--max-tokens", options.max_tokens, "Most tokens to write",
           std::numeric_limits<std::size_t>::max());
  add_size(app, "--think-budget", options.think_budget, "Most tokens of thinking; 0 = no limit", 0);
  app.add_flag(
      "--loop", options.loop,
      "End an answer that goes in circles: its last 32 tokens for the fourth time in 1,024");
  app.add_option("--stop", options.stop, "Text that ends the answer; may be repeated")
      ->type_size(1)
      ->allow_extra_args(false);
}

std::filesystem::path take_model(ModelOptions& options, bool other_words) {
  const std::string from_environment = environment("DSV32_MODEL");
  std::string name = options.model;
  if (name.empty()) {
    const bool first_word = other_words
                                ? options.words.size() > (from_environment.empty() ? 0U : 1U)
                                : !options.words.empty();
    if (first_word) {
      name = options.words.front();
      options.words.erase(options.words.begin());
    } else {
      name = from_environment;
    }
  }
  if (name.empty()) throw UsageError("no model: name one, or set DSV32_MODEL");
  if (!other_words && !options.words.empty())
    throw UsageError("one argument too many: '" + options.words.front() + "'");
  return dsv32::resolve_model(name, hub_cache());
}

dsv32::LoadOptions load_options(const ModelOptions& options) {
  dsv32::LoadOptions load;
  load.backend.num_threads = options.threads;
  load.backend.kernel_set = options.kernels;
  std::tie(load.backend.device, load.backend.device_index) = *device_of(options.device);
  load.numerics = choose(kNumerics, options.numerics);
  load.kv_format = choose(kKvFormats, options.kv);
  load.indexer_keys = choose(kIndexerKeys, options.indexer);
  load.access = choose(kAccess, options.access);
  load.verify = choose(kVerify, options.verify);
  load.kv_cache_tokens = options.ctx;
  if (options.batch == 0 || options.batch > std::size_t{std::numeric_limits<int>::max()})
    throw UsageError("--batch must be between 1 and 2147483647");
  load.max_batch_tokens = static_cast<int>(options.batch);
  load.mtp = options.drafts > 0;
  load.preload = options.preload;
  load.require_sparse = options.require_sparse;
  load.allow_paging = options.allow_paging;
  load.allow_unused_tensors = options.allow_unused;
  if (!options.chat_format.empty()) load.chat_format = choose(kChatFormats, options.chat_format);
  return load;
}

dsv32::Checkpoint open_checkpoint(const std::filesystem::path& dir, const ModelOptions& options,
                                  const Terminal& terminal) {
  dsv32::OpenOptions open;
  open.num_threads = options.threads;
  open.access = choose(kAccess, options.access);
  open.log = [&](dsv32::LogLevel level, std::string_view message) {
    if (level == dsv32::LogLevel::warning) terminal.note("dsv32: warning: " + visible(message));
  };
  return dsv32::Checkpoint::open(dir, open);
}

namespace {

// Whether the weights alone are more than there is, as far as the files can still tell.
bool weights_do_not_fit(const std::filesystem::path& dir, const dsv32::LoadOptions& options) {
  try {
    const dsv32::Plan plan =
        dsv32::Checkpoint::open(dir).plan({.device = options.backend.device,
                                           .device_index = options.backend.device_index,
                                           .access = options.access,
                                           .mtp = options.mtp});
    const auto there = plan.device_bytes > 0 ? plan.device_available_bytes : plan.available_bytes;
    return there && plan.weight_bytes > *there;
  } catch (const dsv32::Error&) {
    return false;
  }
}

}  // namespace

dsv32::Model load_model(const std::filesystem::path& dir, dsv32::LoadOptions options,
                        const Terminal& terminal, const Interrupt& interrupt) {
  if (!interrupt.problem().empty()) terminal.note("dsv32: warning: " + interrupt.problem());
  Progress progress(terminal, "loading " + visible(dir.filename().string()));
  options.on_progress = [&](double fraction) {
    progress.update(fraction);
    return !interrupt.pressed();
  };
  // Passes may say something, too: the terminal outlives the model.
  options.log = [&terminal](dsv32::LogLevel level, std::string_view message) {
    if (level == dsv32::LogLevel::warning) terminal.note("dsv32: warning: " + visible(message));
  };
  try {
    return dsv32::Model::load(dir, options);
  } catch (const dsv32::Error& error) {
    if (error.code() != dsv32::ErrorCode::out_of_memory || !weights_do_not_fit(dir, options)) throw;
    throw WeightsDoNotFit(error.code(), error.what());
  }
}

namespace {

// `params`, changed by the options that were given.
dsv32::GenerateOptions asked_for(const SamplingOptions& options, dsv32::SamplingParams params) {
  const dsv32::SamplingParams& asked = options.params;
  const auto given = [&](const char* name) { return options.app->count(name) > 0; };
  if (given("--temp")) params.temperature = asked.temperature;
  if (given("--top-p")) params.top_p = asked.top_p;
  if (given("--top-k")) params.top_k = asked.top_k;
  if (given("--min-p")) params.min_p = asked.min_p;
  if (given("--repetition-penalty")) params.repetition_penalty = asked.repetition_penalty;
  if (given("--presence-penalty")) params.presence_penalty = asked.presence_penalty;
  if (given("--frequency-penalty")) params.frequency_penalty = asked.frequency_penalty;
  if (options.greedy) params.temperature = 0.0f;
  if (given("--seed")) params.seed = whole_number(options.seed);
  dsv32::GenerateOptions result;
  result.sampling = std::move(params);
  result.max_tokens = options.max_tokens;
  result.thinking_budget = options.think_budget;
  result.stop_strings = options.stop;
  if (options.loop) result.repetition.window = 1024;
  return result;
}

}  // namespace

void check_sampling(const SamplingOptions& options) { asked_for(options, {}).validate(); }

dsv32::GenerateOptions generate_options(const SamplingOptions& options, const dsv32::Model& model) {
  return asked_for(options, model.default_sampling());
}

dsv32::GenerateOptions generate_options(const SamplingOptions& options,
                                        const dsv32::SamplingParams& own) {
  return asked_for(options, own);
}

std::string read_text(const std::string& path) {
  try {
    return read_file(path);
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());
  }
}

std::string read_prompt(const std::vector<std::string>& words, const std::string& file) {
  if (!words.empty() && !file.empty())
    throw UsageError("give the text as words or as a file, not both");
  if (!file.empty()) return read_text(file);
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return words.empty() ? read_text("-") : text;
}

std::vector<dsv32::TokenId> parse_ids(const std::string& text) {
  const auto list = parse_json(text).value_or(nullptr);
  const auto is_id = [](const nlohmann::ordered_json& value) {
    return value.is_number_integer() && value >= 0 &&
           value <= std::numeric_limits<dsv32::TokenId>::max();
  };
  if (!list.is_array() || !std::all_of(list.begin(), list.end(), is_id))
    throw UsageError("token ids must be a JSON list of integers, such as [0, 17, 4]");
  return list.get<std::vector<dsv32::TokenId>>();
}

}  // namespace cli
