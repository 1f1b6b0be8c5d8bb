// Which tensors become INT8 or INT4, and how their pieces are made.
#include "cli/compact_model.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace cli {
namespace {

constexpr std::string_view kFusedGateUp = ".mlp.experts.gate_up_proj";
constexpr std::string_view kFusedDown = ".mlp.experts.down_proj";

bool is_compact(const std::string& name) {
  constexpr std::array<std::string_view, 3> kAttention = {
      ".self_attn.q_a_proj.weight", ".self_attn.q_b_proj.weight", ".self_attn.o_proj.weight"};
  constexpr std::array<std::string_view, 3> kMlp = {".gate_proj.weight", ".up_proj.weight",
                                                    ".down_proj.weight"};
  const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
  return std::any_of(kAttention.begin(), kAttention.end(), ends) ||
         (name.find(".mlp.") != std::string::npos && std::any_of(kMlp.begin(), kMlp.end(), ends));
}

// Layers that the config does not count are nobody's to check but ours.
void check_matrix(const dsv32::TensorInfo& weight, std::size_t rank,
                  const dsv32::TensorInfo* scale) {
  constexpr std::array<std::string_view, 4> kTypes = {"F8_E4M3", "BF16", "F16", "F32"};
  const bool known = std::find(kTypes.begin(), kTypes.end(), weight.dtype) != kTypes.end();
  const bool fp8 = weight.dtype == "F8_E4M3";
  bool fits = known && weight.shape.size() == rank && !(fp8 && rank != 2);
  if (fits && fp8) {
    const std::vector<std::int64_t> blocks = {(weight.shape[0] + 127) / 128,
                                              (weight.shape[1] + 127) / 128};
    fits = scale != nullptr && scale->shape == blocks &&
           (scale->dtype == "F32" || scale->dtype == "F8_E8M0");
  }
  if (!fits)
    throw dsv32::Error(dsv32::ErrorCode::mismatch,
                       "tensor '" + weight.name + "' is no matrix that can be converted");
}

// Makes rows of codes or scales; `row_bytes` of them a row.
Fill rows_of(const SourceMatrix& matrix, const CompactFormat& format, std::size_t row_bytes,
             bool scales) {
  return [=](std::size_t first, std::span<std::byte> out) {
    std::vector<float> row(static_cast<std::size_t>(matrix.cols));
    for (std::size_t at = 0; at < out.size(); at += row_bytes) {
      matrix.read(static_cast<std::int64_t>((first + at) / row_bytes), row);
      const auto part = out.subspan(at, row_bytes);
      try {
        quantise_row(format, row, scales ? std::span<std::byte>() : part,
                     scales ? part : std::span<std::byte>());
      } catch (const std::range_error& error) {
        throw std::runtime_error("tensor '" + matrix.weight->name + "': " + error.what());
      }
    }
  };
}

class Builder {
 public:
  Builder(const dsv32::Checkpoint& source, const CompactFormat& format)
      : all_(source.tensors()), format_(format) {}

  CompactModel build() {
    std::vector<const dsv32::TensorInfo*> order;
    for (const dsv32::TensorInfo& tensor : all_) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
      return std::pair(a->file, a->data.data()) < std::pair(b->file, b->data.data());
    });
    for (const dsv32::TensorInfo* tensor : order) {
      model_.source_bytes += tensor->data.size();
      add(*tensor);
    }
    return std::move(model_);
  }

 private:
  const dsv32::TensorInfo* find(const std::string& name) const {
    const auto at = std::lower_bound(
        all_.begin(), all_.end(), name,
        [](const dsv32::TensorInfo& tensor, const std::string& key) { return tensor.name < key; });
    return at != all_.end() && at->name == name ? &*at : nullptr;
  }

  void add(const dsv32::TensorInfo& tensor) {
    const std::string& name = tensor.name;
    constexpr std::string_view kScale = "_scale_inv";
    if (name.ends_with(kFusedGateUp) || name.ends_with(kFusedDown)) return split(tensor);
    if (is_compact(name)) {
      const dsv32::TensorInfo* scale = find(name + std::string(kScale));
      check_matrix(tensor, 2, scale);
      return convert(
          name,
          {.weight = &tensor, .scale = scale, .rows = tensor.shape[0], .cols = tensor.shape[1]});
    }
    if (name.ends_with(kScale) && is_compact(name.substr(0, name.size() - kScale.size()))) return;
    copy(tensor);
  }

  void copy(const dsv32::TensorInfo& tensor) {
    model_.tensors.push_back(
        {.name = tensor.name,
         .dtype = tensor.dtype,
         .shape = tensor.shape,
         .bytes = tensor.data.size(),
         .fill = [data = tensor.data](std::size_t first, std::span<std::byte> out) {
           std::memcpy(out.data(), data.data() + first, out.size());
         }});
  }

  void convert(const std::string& name, const SourceMatrix& matrix) {
    const bool wide = format_.bits == 8;
    const std::int64_t codes = format_.code_bytes(matrix.cols);
    put(name, wide ? "I8" : "U8", {matrix.rows, codes}, codes, matrix, false);
    put(name + "_scale", wide ? "F32" : "F16", {matrix.rows, format_.groups(matrix.cols)},
        format_.scale_bytes(matrix.cols), matrix, true);
    ++model_.converted;
  }

  void put(const std::string& name, const char* dtype, std::vector<std::int64_t> shape,
           std::int64_t row_bytes, const SourceMatrix& matrix, bool scales) {
    const auto step = static_cast<std::size_t>(row_bytes);
    model_.tensors.push_back({.name = name,
                              .dtype = dtype,
                              .shape = std::move(shape),
                              .bytes = static_cast<std::size_t>(matrix.rows) * step,
                              .step = step,
                              .fill = rows_of(matrix, format_, step, scales)});
  }

  // [experts, rows, columns]; in gate_up_proj gate's rows come before up's.
  void split(const dsv32::TensorInfo& tensor) {
    check_matrix(tensor, 3, nullptr);
    const bool both = tensor.name.ends_with(kFusedGateUp);
    const std::string_view ending = both ? kFusedGateUp : kFusedDown;
    const std::string prefix =
        tensor.name.substr(0, tensor.name.size() - ending.size()) + ".mlp.experts.";
    const std::int64_t parts = both ? 2 : 1, rows = tensor.shape[1] / parts;
    for (std::int64_t part = 0; part < tensor.shape[0] * parts; ++part) {
      const char* role = !both ? "down" : part % 2 == 0 ? "gate" : "up";
      convert(prefix + std::to_string(part / parts) + "." + role + "_proj.weight",
              {.weight = &tensor, .first = part * rows, .rows = rows, .cols = tensor.shape[2]});
    }
  }

  std::span<const dsv32::TensorInfo> all_;
  CompactFormat format_;
  CompactModel model_;
};

}  // namespace

CompactModel compact_tensors(const dsv32::Checkpoint& source, const CompactFormat& format) {
  return Builder(source, format).build();
}

}  // namespace cli
