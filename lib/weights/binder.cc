// The walk over a model's tensors. Names and shapes: docs/formats.md.
#include "lib/weights/binder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/floats.h"
#include "lib/weights/foreign_format.h"
#include "lib/weights/safetensors.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxListed = 10;

DType to_dtype(std::string_view name) {
  if (name == "BF16") return DType::bf16;
  if (name == "F16") return DType::f16;
  if (name == "F8_E4M3") return DType::f8_e4m3;
  if (name == "I8") return DType::i8;
  if (name == "U8") return DType::i4;  // two a byte
  return name == "F8_E8M0" ? DType::f8_e8m0 : DType::f32;
}

TensorView view(const TensorInfo& tensor, std::int64_t rows, std::int64_t cols) {
  // Views are writable by type only; weights are mapped read-only.
  return {.data = const_cast<std::byte*>(tensor.data.data()),
          .dtype = to_dtype(tensor.dtype),
          .rows = rows,
          .cols = cols,
          .stride = cols};
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return formatted("[{}]", joined(shape, ", "));
}

float read_float(const TensorInfo& tensor, std::size_t i) {
  return read_element(tensor.data.data(), to_dtype(tensor.dtype), i);
}

// 0, or a power of two between 2^-100 and 2^100: what a conversion table can hold.
bool is_table_scale(float x) {
  int exponent = 0;
  return x == 0.0f || (std::frexp(x, &exponent) == 0.5f && exponent >= -99 && exponent <= 101);
}

// The first element of `n` that is NaN or infinite; n: none.
std::size_t first_not_finite(const std::byte* data, DType dtype, std::size_t n) {
  std::size_t i = 0;
  if (dtype == DType::i8 || dtype == DType::i4) return n;
  if (dtype == DType::f8_e4m3) {
    while (i < n && (static_cast<unsigned>(data[i]) & 0x7Fu) != 0x7Fu) ++i;
  } else {
    while (i < n && std::isfinite(read_element(data, dtype, i))) ++i;
  }
  return i;
}

std::size_t elements(const TensorInfo& tensor) {
  return tensor.data.size() / static_cast<std::size_t>(dtype_bits(tensor.dtype) / 8);
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t blocks(std::int64_t n) { return ceil_div(n, kernels::kBlock); }

// Says so to the system while it lives.
class ScatteredReads {
 public:
  explicit ScatteredReads(std::span<const File> files) : files_(files) { hint(true); }
  ScatteredReads(const ScatteredReads&) = delete;
  ScatteredReads& operator=(const ScatteredReads&) = delete;
  ~ScatteredReads() { hint(false); }

 private:
  void hint(bool scattered) const {
    for (const File& file : files_) file.hint_scattered(scattered);
  }
  std::span<const File> files_;
};

std::string list_names(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMaxListed); ++i) {
    text += (i ? ", " : " ") + quote(names[i]);
  }
  return text + (names.size() > kMaxListed ? ", .." : "");
}

}  // namespace

Binder::Binder(const ModelConfig& config, const Shards& shards, const BindOptions& options)
    : config_(config), shards_(shards), options_(options), used_(shards.tensors.size()) {}

void Binder::walk() {
  // Scales lie between weights a thousand times their size, which are not read now.
  const bool scattered = options_.verify == Verify::scales;
  const ScatteredReads hint(scattered ? std::span(shards_.files) : std::span<const File>());
  bind_top();
  for (int i = 0; i < config_.num_hidden_layers; ++i) {
    weights.layers.push_back(layer(i, i < config_.first_k_dense_replace));
  }
  bind_mtp();
}

std::vector<Problem> Binder::problems() const {
  std::vector<Problem> all = found();
  if (all.empty()) return all;
  // Of another format none of the tensors is what it should be; one name says more than ten.
  if (std::optional<Problem> foreign = foreign_format(shards_.tensors, config_.bits != 0))
    return {*foreign};
  return all;
}

std::vector<Problem> Binder::found() const {
  std::vector<Problem> all;
  if (!missing_.empty()) {
    all.push_back({ErrorCode::mismatch,
                   formatted("{} tensors are missing:{}", missing_.size(), list_names(missing_))});
  }
  all.insert(all.end(), problems_.begin(), problems_.end());
  if (problem_count_ > problems_.size()) {
    all.push_back({ErrorCode::mismatch,
                   formatted("and {} more of the kind", problem_count_ - problems_.size())});
  }
  if (!options_.allow_unused) {
    if (std::string text = unused(); !text.empty()) {
      all.push_back({ErrorCode::mismatch, std::move(text)});
    }
  }
  return all;
}

std::string Binder::unused() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < used_.size(); ++i) {
    if (!used_[i]) names.push_back(shards_.tensors[i].name);
  }
  if (names.empty()) return {};
  return formatted("{} tensors are not of this model:{}", names.size(), list_names(names));
}

void Binder::problem(ErrorCode code, std::string message) {
  ++problem_count_;
  if (problems_.size() < kMaxListed) problems_.push_back({code, std::move(message)});
}

void Binder::mark(const TensorInfo* tensor) {
  used_[static_cast<std::size_t>(tensor - shards_.tensors.data())] = true;
}

const TensorInfo* Binder::require(const std::string& name, const std::vector<std::int64_t>& shape,
                                  std::initializer_list<const char*> dtypes) {
  const TensorInfo* tensor = shards_.find(name);
  if (!tensor) {
    missing_.push_back(name);
    return nullptr;
  }
  mark(tensor);
  if (tensor->shape != shape) {
    problem(ErrorCode::mismatch, formatted("tensor {} has shape {}, not {}", quote(name),
                                           shape_text(tensor->shape), shape_text(shape)));
    return nullptr;
  }
  if (std::find(dtypes.begin(), dtypes.end(), tensor->dtype) == dtypes.end()) {
    problem(ErrorCode::mismatch, formatted("tensor {} has dtype {}, not one of {}", quote(name),
                                           tensor->dtype, joined(dtypes, ", ")));
    return nullptr;
  }
  if (options_.verify == Verify::all) check_values(*tensor);
  return tensor;
}

void Binder::check_values(const TensorInfo& tensor) {
  const std::size_t n = elements(tensor),
                    i = first_not_finite(tensor.data.data(), to_dtype(tensor.dtype), n);
  if (i == n) return;
  problem(ErrorCode::bad_format,
          formatted("tensor {} holds NaN or infinity, first at element {}", quote(tensor.name), i));
}

// True if all can be in a conversion table.
bool Binder::check_scales(const TensorInfo& scale) {
  bool table = true;
  for (std::size_t i = 0; i < elements(scale); ++i) {
    const float x = read_float(scale, i);
    table = table && is_table_scale(x);
    if (std::isfinite(x) && x >= 0) continue;
    if (!std::isfinite(x) && options_.verify == Verify::all) return false;  // found by require()
    problem(ErrorCode::bad_format,
            formatted("scale {} is {} at element {}", quote(scale.name), x, i));
    return false;
  }
  return table;
}

// Numerics hang on what config.json says of FP8 weights, so it has to. Said once.
void Binder::check_quantised(const TensorInfo& tensor) {
  if (config_.weight_block_size > 0 || said_unquantised_) return;
  said_unquantised_ = true;
  problem(ErrorCode::mismatch,
          formatted("tensor {} is F8_E4M3, but config.json has no \"quantization_config\"{} that "
                    "says how FP8 was made",
                    quote(tensor.name), config_.bits > 0 ? " with a \"rest\"" : ""));
}

Linear Binder::fp8(const TensorInfo& tensor, std::int64_t rows, std::int64_t cols) {
  Linear w{.weight = view(tensor, rows, cols), .scale = {}, .format = WeightFormat::fp8};
  check_quantised(tensor);
  const TensorInfo* scale =
      require(tensor.name + "_scale_inv", {blocks(rows), blocks(cols)}, {"F32", "F8_E8M0"});
  if (!scale) return w;
  w.scale = view(*scale, blocks(rows), blocks(cols));
  if (options_.verify == Verify::headers) return w;
  if (check_scales(*scale) && config_.ue8m0_scales) w.format = WeightFormat::fp8_pow2;
  return w;
}

// INT8 or INT4 with a scale for each row and group of columns; else as `matrix`.
Weight Binder::compact_matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  const TensorInfo* found = shards_.find(name);
  const bool wide = config_.bits == 8;
  if (!found || config_.group_size == 0 || found->dtype != (wide ? "I8" : "U8"))
    return matrix(name, rows, cols);
  const std::int64_t groups = ceil_div(cols, config_.group_size);
  const TensorInfo* tensor = require(name, {rows, wide ? cols : ceil_div(cols, 2)}, {"I8", "U8"});
  const TensorInfo* scale = require(name + "_scale", {rows, groups}, {wide ? "F32" : "F16"});
  if (!tensor || !scale) return {};
  Linear w{.weight = view(*tensor, rows, cols),
           .scale = view(*scale, rows, groups),
           .format = wide ? WeightFormat::int8 : WeightFormat::int4};
  if (!wide) w.weight.stride = ceil_div(cols, 2) * 2;  // a row begins with a byte
  if (options_.verify != Verify::headers) check_scales(*scale);
  return {.file = w};
}

Weight Binder::matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  const TensorInfo* tensor = require(name, {rows, cols}, {"F8_E4M3", "BF16", "F16", "F32"});
  if (!tensor) return {};
  if (tensor->dtype == "F8_E4M3") return {.file = fp8(*tensor, rows, cols)};
  return {.file = {.weight = view(*tensor, rows, cols), .scale = {}}};
}

Weight Binder::plain_matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  const TensorInfo* tensor = require(name, {rows, cols}, {"BF16", "F16", "F32"});
  if (!tensor) return {};
  return {.file = {.weight = view(*tensor, rows, cols), .scale = {}}};
}

TensorView Binder::gain(const std::string& name, std::int64_t cols) {
  const TensorInfo* tensor = require(name, {cols}, {"F32", "BF16", "F16"});
  if (!tensor) return {};
  if (options_.verify == Verify::scales) check_values(*tensor);  // of all: require() did
  return view(*tensor, 1, cols);
}

void Binder::bind_top() {
  const std::int64_t vocab = config_.vocab_size, hidden = config_.hidden_size;
  weights.embed_tokens = plain_matrix("model.embed_tokens.weight", vocab, hidden);
  weights.norm = gain("model.norm.weight", hidden);
  weights.lm_head = plain_matrix("lm_head.weight", vocab, hidden);
}

AttentionWeights Binder::attention(const std::string& p) {
  const ModelConfig& c = config_;
  const std::int64_t heads = c.num_attention_heads, hidden = c.hidden_size;
  return {
      .q_a = compact_matrix(p + "q_a_proj.weight", c.q_lora_rank, hidden),
      .q_a_norm = gain(p + "q_a_layernorm.weight", c.q_lora_rank),
      .q_b = compact_matrix(p + "q_b_proj.weight",
                            heads * (c.qk_nope_head_dim + c.qk_rope_head_dim), c.q_lora_rank),
      .kv_a = matrix(p + "kv_a_proj_with_mqa.weight", c.kv_lora_rank + c.qk_rope_head_dim, hidden),
      .kv_a_norm = gain(p + "kv_a_layernorm.weight", c.kv_lora_rank),
      .kv_b = matrix(p + "kv_b_proj.weight", heads * (c.qk_nope_head_dim + c.v_head_dim),
                     c.kv_lora_rank),
      .o = compact_matrix(p + "o_proj.weight", hidden, heads * c.v_head_dim)};
}

IndexerWeights Binder::indexer(const std::string& p) {
  const ModelConfig& c = config_;
  return {.wq_b = matrix(p + "wq_b.weight", std::int64_t{c.index_n_heads} * c.index_head_dim,
                         c.q_lora_rank),
          .wk = matrix(p + "wk.weight", c.index_head_dim, c.hidden_size),
          .k_norm = gain(p + "k_norm.weight", c.index_head_dim),
          .k_bias = gain(p + "k_norm.bias", c.index_head_dim),
          .weights = plain_matrix(p + "weights_proj.weight", c.index_n_heads, c.hidden_size)};
}

MlpWeights Binder::mlp(const std::string& p, std::int64_t width) {
  return {.gate = compact_matrix(p + "gate_proj.weight", width, config_.hidden_size),
          .up = compact_matrix(p + "up_proj.weight", width, config_.hidden_size),
          .down = compact_matrix(p + "down_proj.weight", config_.hidden_size, width)};
}

MoeWeights Binder::moe(const std::string& p) {
  const ModelConfig& c = config_;
  const std::int64_t width = c.moe_intermediate_size;
  MoeWeights out;
  out.gate = plain_matrix(p + "gate.weight", c.n_routed_experts, c.hidden_size);
  out.e_score_correction_bias = gain(p + "gate.e_score_correction_bias", c.n_routed_experts);
  if (shards_.find(p + "experts.gate_up_proj")) {
    fused_experts(p + "experts.", out);
  } else {
    for (int e = 0; e < c.n_routed_experts; ++e) {
      MlpWeights expert = mlp(p + "experts." + std::to_string(e) + ".", width);
      out.expert_gate.file.push_back(expert.gate.file);
      out.expert_up.file.push_back(expert.up.file);
      out.expert_down.file.push_back(expert.down.file);
    }
  }
  out.shared_experts = mlp(p + "shared_experts.", width * c.n_shared_experts);
  return out;
}

// transformers' in-memory names: one tensor for all experts, gate rows before up rows.
void Binder::fused_experts(const std::string& p, MoeWeights& out) {
  const std::int64_t experts = config_.n_routed_experts, width = config_.moe_intermediate_size;
  const std::int64_t hidden = config_.hidden_size;
  const TensorInfo* both =
      require(p + "gate_up_proj", {experts, 2 * width, hidden}, {"BF16", "F16", "F32"});
  const TensorInfo* down =
      require(p + "down_proj", {experts, hidden, width}, {"BF16", "F16", "F32"});
  if (!both || !down) return;
  for (std::int64_t e = 0; e < experts; ++e) {
    const TensorView pair = view(*both, experts * 2 * width, hidden);
    out.expert_gate.file.push_back({.weight = pair.slice(e * 2 * width, width), .scale = {}});
    out.expert_up.file.push_back({.weight = pair.slice((e * 2 + 1) * width, width), .scale = {}});
    out.expert_down.file.push_back(
        {.weight = view(*down, experts * hidden, width).slice(e * hidden, hidden), .scale = {}});
  }
}

LayerWeights Binder::layer(int index, bool dense) {
  const std::string p = "model.layers." + std::to_string(index) + ".";
  LayerWeights out;
  out.input_layernorm = gain(p + "input_layernorm.weight", config_.hidden_size);
  out.post_attention_layernorm = gain(p + "post_attention_layernorm.weight", config_.hidden_size);
  out.attention = attention(p + "self_attn.");
  if (config_.index_topk > 0) out.indexer = indexer(p + "self_attn.indexer.");
  if (dense) {
    out.mlp = mlp(p + "mlp.", config_.intermediate_size);
  } else {
    out.moe = moe(p + "mlp.");
  }
  return out;
}

// The layer behind the last one. Bound only on demand; its tensors never count as unused. Its
// copies of the vocabulary tables may be missing.
void Binder::bind_mtp() {
  const std::int64_t vocab = config_.vocab_size, hidden = config_.hidden_size;
  const std::string p = "model.layers." + std::to_string(config_.num_hidden_layers) + ".";
  if (!options_.mtp || config_.num_nextn_predict_layers == 0) {
    for (std::size_t i = 0; i < used_.size(); ++i) {
      if (shards_.tensors[i].name.starts_with(p)) used_[i] = true;
    }
    return;
  }
  MtpWeights& m = weights.mtp.emplace();
  m.embed_tokens = shards_.find(p + "embed_tokens.weight")
                       ? plain_matrix(p + "embed_tokens.weight", vocab, hidden)
                       : weights.embed_tokens;
  m.shared_head = shards_.find(p + "shared_head.head.weight")
                      ? plain_matrix(p + "shared_head.head.weight", vocab, hidden)
                      : weights.lm_head;
  m.enorm = gain(p + "enorm.weight", hidden);
  m.hnorm = gain(p + "hnorm.weight", hidden);
  m.shared_head_norm = gain(p + "shared_head.norm.weight", hidden);
  m.eh_proj = plain_matrix(p + "eh_proj.weight", hidden, 2 * hidden);
  m.layer = layer(config_.num_hidden_layers, false);
}

}  // namespace dsv32
