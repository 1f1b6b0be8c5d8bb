#include "lib/config/unread_keys.h"

#include <algorithm>
#include <array>

#include "lib/base/check.h"
#include "lib/base/neutral.h"

namespace dsv32 {
namespace {

// Of training, of files, of other programs' generation and output: nothing that a pass would do
// differently.
constexpr std::array<std::string_view, 31> kSilent = {"architectures",
                                                      "attention_dropout",
                                                      "auto_map",
                                                      "aux_loss_alpha",
                                                      "dtype",
                                                      "embd_pdrop",
                                                      "ep_size",
                                                      "finetuning_task",
                                                      "gradient_checkpointing",
                                                      "hidden_dropout",
                                                      "id2label",
                                                      "initializer_range",
                                                      "is_decoder",
                                                      "label2id",
                                                      "model_name",
                                                      "model_max_length",
                                                      "name_or_path",
                                                      "pad_token_id",
                                                      "pretraining_tp",
                                                      "problem_type",
                                                      "resid_pdrop",
                                                      "return_dict",
                                                      "router_aux_loss_coef",
                                                      "seq_aux",
                                                      "tokenizer_class",
                                                      "torch_dtype",
                                                      "transformers_version",
                                                      "transformers.js_config",
                                                      "unsloth_fixed",
                                                      "unsloth_version",
                                                      "use_cache"};

// Which matrices are quantised the files say themselves, by their types.
constexpr std::array<std::string_view, 2> kSilentQuantization = {"ignored_layers",
                                                                 "modules_to_not_convert"};

struct Neutral {
  std::string_view key;
  std::string_view value;  // as python_json() writes it; null and absent are as good
  std::string_view means;  // any other value
};

constexpr std::array kNeutral = {
    Neutral{"topk_method", "\"noaux_tc\"", "another way to choose experts"},
    Neutral{"scoring_func", "\"sigmoid\"", "another way to score experts"},
    Neutral{"hidden_act", "\"silu\"", "another activation"},
    Neutral{"attention_bias", "false", "biases in attention"},
    Neutral{"mlp_bias", "false", "biases in MLPs"},
    Neutral{"moe_layer_freq", "1", "dense layers between those with experts"},
    Neutral{"tie_word_embeddings", "false", "one table for embeddings and head"},
    Neutral{"use_index_cache", "false", "indexers shared between layers"},
    Neutral{"index_topk_freq", "1", "indexers shared between layers"},
    Neutral{"index_topk_pattern", "\"\"", "indexers shared between layers"},
    Neutral{"compression_config", "{}", "compressed-tensors"},
};

// A value as a message shows it.
std::string shown(const Json& value) {
  if (value.is_string()) return quote(value.text);
  std::string text = python_json(value);
  return text.size() <= 16 ? text : quote(text);
}

bool contains(std::span<const std::string_view> list, std::string_view key) {
  return std::find(list.begin(), list.end(), key) != list.end();
}

// Reads `key` if it says `value` once more.
void read_if(const Fields& root, std::string_view key, int value) {
  const Json* found = root.peek(key);
  if (found && found->kind == Json::Kind::integer && found->text == std::to_string(value)) {
    static_cast<void>(root.find(key));
  }
}

}  // namespace

std::span<const std::string_view> silent_keys() { return kSilent; }
std::span<const std::string_view> silent_quantization_keys() { return kSilentQuantization; }

void refuse_other_architectures(const Fields& root) {
  for (const Neutral& neutral : kNeutral) {
    const Json* value = root.find(neutral.key);
    if (!value) continue;
    const bool same = python_json(*value) == neutral.value ||
                      (value->kind == Json::Kind::real && neutral.value == "1" && value->real == 1);
    DSV32_CHECK(same, unsupported, "{}: {} is {}, which means {}: only {} is supported",
                kConfigFile, neutral.key, shown(*value), neutral.means, neutral.value);
  }
}

void read_derived_keys(const Fields& root, const ModelConfig& c) {
  read_if(root, "first_k_dense_replace", c.first_k_dense_replace);  // of mlp_layer_types
  read_if(root, "num_key_value_heads", c.num_attention_heads);
  read_if(root, "head_dim", c.qk_rope_head_dim);
  read_if(root, "qk_head_dim", c.qk_nope_head_dim + c.qk_rope_head_dim);
  read_if(root, "num_experts", c.n_routed_experts);
  read_if(root, "num_local_experts", c.n_routed_experts);
}

std::vector<std::string> unread_keys(const Fields& block,
                                     std::span<const std::string_view> silent) {
  std::vector<std::string> names;
  for (const JsonMember* member : block.unread()) {
    if (is_neutral(member->value) || contains(silent, member->key)) continue;
    if (member->key.starts_with('_')) continue;
    names.push_back(block.path() + member->key);
  }
  return names;
}

}  // namespace dsv32
