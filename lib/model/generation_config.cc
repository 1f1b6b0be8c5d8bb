#include "lib/model/generation_config.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/base/held.h"
#include "lib/base/json.h"
#include "lib/sampling/sampling_params.h"
#include "lib/weights/checkpoint_impl.h"

namespace dsv32 {
namespace {

constexpr const char* kFile = "generation_config.json";
constexpr std::size_t kMaxBytes = 1u << 20, kMaxList = 1024;

// Read below, or without a meaning for what is generated here.
constexpr std::array<std::string_view, 17> kRead = {"temperature",
                                                    "top_p",
                                                    "top_k",
                                                    "min_p",
                                                    "repetition_penalty",
                                                    "do_sample",
                                                    "eos_token_id",
                                                    "stop_strings",
                                                    "max_new_tokens",
                                                    "bos_token_id",
                                                    "pad_token_id",
                                                    "decoder_start_token_id",
                                                    "transformers_version",
                                                    "_from_model_config",
                                                    "use_cache",
                                                    "return_dict_in_generate",
                                                    "cache_implementation"};

// The value behind `key`; null if it is absent, or null itself.
const Json* find(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  return value && value->kind != Json::Kind::null ? value : nullptr;
}

std::optional<double> number(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  if (!value) return {};
  if (value->kind == Json::Kind::real) return value->real;
  DSV32_CHECK(value->kind == Json::Kind::integer, bad_format, "{}: key {} is no number", kFile,
              key);
  return static_cast<double>(parse_i64(value->text, key));
}

void read_real(const Json& root, std::string_view key, float& target) {
  if (const auto value = number(root, key)) target = static_cast<float>(*value);
}

// Of the list behind `key`, or of the one value that may stand for a list of one.
template <class Each>
void each_of(const Json& root, std::string_view key, Each&& each) {
  const Json* value = find(root, key);
  if (!value) return;
  if (!value->is_array()) return each(*value);
  DSV32_CHECK(value->items.size() <= kMaxList, bad_format, "{}: {} has {} entries, more than {}",
              kFile, key, value->items.size(), kMaxList);
  for (const Json& item : value->items) each(item);
}

TokenId token_id(const Json& value, int vocab_size) {
  DSV32_CHECK(value.kind == Json::Kind::integer, bad_format, "{}: eos_token_id is no token id",
              kFile);
  const std::int64_t id = parse_i64(value.text, "eos_token_id");
  DSV32_CHECK(id >= 0 && id < vocab_size, bad_format, "{}: eos_token_id {} is not in 0..{}", kFile,
              id, vocab_size - 1);
  return static_cast<TokenId>(id);
}

SamplingParams read_sampling(const Json& root) {
  SamplingParams params;
  read_real(root, "temperature", params.temperature);
  read_real(root, "top_p", params.top_p);
  read_real(root, "min_p", params.min_p);
  read_real(root, "repetition_penalty", params.repetition_penalty);
  if (const auto value = number(root, "top_k")) {
    DSV32_CHECK(*value >= 0 && *value <= std::numeric_limits<int>::max(), bad_format,
                "{}: top_k is {}", kFile, *value);
    params.top_k = static_cast<int>(*value);
  }
  const Json* sample = root.find("do_sample");
  if (sample && sample->kind == Json::Kind::boolean && !sample->boolean) params.temperature = 0.0f;
  try {
    check_params(params);
  } catch (const Error& error) {  // a fault of the file, not of who loads it
    throw Error(ErrorCode::bad_format, formatted("{}: {}", kFile, error.what()));
  }
  return params;
}

}  // namespace

GenerationConfig read_generation_config(const Folder& folder, int vocab_size) {
  GenerationConfig config;
  if (!folder.has(kFile)) return config;
  const Json root = parse_json(read_text(folder, kFile, kMaxBytes), kFile);
  DSV32_CHECK(root.is_object(), bad_format, "{}: no JSON object", kFile);
  config.sampling = read_sampling(root);
  each_of(root, "eos_token_id",
          [&](const Json& value) { config.eos_token_ids.push_back(token_id(value, vocab_size)); });
  each_of(root, "stop_strings", [&](const Json& value) {
    DSV32_CHECK(value.is_string(), bad_format, "{}: stop_strings holds what is no string", kFile);
    config.stop_strings.push_back(value.text);
  });
  if (const auto value = number(root, "max_new_tokens")) {
    DSV32_CHECK(*value >= 0 && *value <= 1e15, bad_format, "{}: max_new_tokens is {}", kFile,
                *value);
    config.max_new_tokens = static_cast<std::size_t>(*value);
  }
  for (const JsonMember& member : root.members) {
    const bool read = std::find(kRead.begin(), kRead.end(), member.key) != kRead.end();
    if (!read && member.value.kind != Json::Kind::null) config.other_keys.push_back(member.key);
  }
  return config;
}

std::string not_applied(const GenerationConfig& config) {
  constexpr std::size_t kNamed = 8;
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (!config.stop_strings.empty()) add(formatted("stop_strings ({})", config.stop_strings.size()));
  if (config.max_new_tokens) add(formatted("max_new_tokens {}", *config.max_new_tokens));
  for (std::size_t i = 0; i < std::min(kNamed, config.other_keys.size()); ++i)
    add(quote(config.other_keys[i]));
  if (config.other_keys.size() > kNamed)
    add(formatted("{} more", config.other_keys.size() - kNamed));
  if (text.empty()) return {};
  return formatted("{}: not applied: {}", kFile, text);
}

GenerationConfig Checkpoint::generation_config() const {
  const Impl& impl = held(impl_);
  const FloatState ours;
  return read_generation_config(impl.folder, impl.config.vocab_size);
}

}  // namespace dsv32
