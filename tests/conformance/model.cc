// `model DIR...`: checkpoints with known answers. Format: expected.safetensors as its README says.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "dsv32/session.h"

#include "lib/base/check.h"
#include "lib/weights/shards.h"
#include "tests/conformance/conformance.h"
#include "tests/support/kernel_sets.h"
#include "tests/support/worst.h"

namespace dsv32::conformance {
namespace {

constexpr float kExactTolerance = 5e-4f;  // two independent fp32 implementations: 1.5e-4 at most
constexpr float kSmallMargin = 1e-5f;     // below: another order of sums may choose other keys

// The tensors of expected.safetensors.
class Expected {
 public:
  explicit Expected(const std::filesystem::path& dir)
      : shards_(open_shards(dir / "expected.safetensors", FileAccess::read)) {
    for (const TensorInfo& t : shards_.tensors) tensors_.emplace(t.name, t);
  }
  bool has(const std::string& name) const { return tensors_.count(name) > 0; }
  const std::vector<std::int64_t>& shape(const std::string& name) const { return get(name).shape; }
  template <class T>
  std::vector<T> values(const std::string& name) const {
    const TensorInfo& t = get(name);
    std::vector<T> out(t.data.size() / sizeof(T));
    std::memcpy(out.data(), t.data.data(), out.size() * sizeof(T));
    return out;
  }

 private:
  const TensorInfo& get(const std::string& name) const {
    const auto it = tensors_.find(name);
    DSV32_CHECK(it != tensors_.end(), not_found, "expected.safetensors lacks {}", quote(name));
    return it->second;
  }
  Shards shards_;
  std::map<std::string, TensorInfo> tensors_;
};

// Everything that one run over the ids gave, for every position.
struct Traced {
  std::vector<float> logits, mtp;                  // [n, V], [n - 1, V]
  std::vector<std::vector<std::int32_t>> topk;     // [L][n * k]
  std::vector<std::vector<std::int32_t>> experts;  // [MoE layers][n * per_tok]
};

Model load(const std::filesystem::path& dir, Numerics numerics, bool mtp, std::size_t tokens,
           const BackendOptions& backend) {
  LoadOptions options;
  options.backend = backend;
  options.numerics = numerics;
  options.mtp = mtp;
  options.kv_cache_tokens = 2 * tokens + 64;
  options.max_batch_tokens = 96;  // so that prompts run in several chunks
  return Model::load(dir, options);
}

Traced trace(const Model& model, bool mtp, const std::vector<std::int32_t>& ids) {
  Traced out;
  const ModelConfig& c = model.config();
  const auto layers = static_cast<std::size_t>(c.num_hidden_layers);
  const auto moe_layers = layers - static_cast<std::size_t>(c.first_k_dense_replace);
  out.topk.resize(c.index_topk > 0 ? layers : 0);
  out.experts.resize(moe_layers);
  Session session(model);
  session.observe(
      {.logits = true, .selection = true, .experts = true, .mtp_logits = mtp}, [&](const Trace& t) {
        out.logits.insert(out.logits.end(), t.logits.begin(), t.logits.end());
        out.mtp.insert(out.mtp.end(), t.mtp_logits.begin(), t.mtp_logits.end());
        const auto append = [&](std::vector<std::vector<std::int32_t>>& to,
                                std::span<const std::int32_t> from) {
          for (std::size_t l = 0; l < to.size(); ++l) {
            const auto part = from.subspan(l * from.size() / to.size(), from.size() / to.size());
            to[l].insert(to[l].end(), part.begin(), part.end());
          }
        };
        append(out.topk, t.selection);
        append(out.experts, t.experts);
      });
  session.append(ids);
  return out;
}

std::vector<std::int32_t> greedy(const Model& model, std::span<const std::int32_t> prompt,
                                 std::size_t count) {
  Session session(model);
  std::vector<std::int32_t> out;
  std::span<const float> logits = session.append(prompt);
  while (out.size() < count) {
    out.push_back(
        static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    logits = session.append(out.back());
  }
  return out;
}

struct RowErrors {
  float median = 0, below_15 = 0;
};

// Relative L2 error of each row of `want` against the row of `got` that `rows` names.
RowErrors row_errors(const std::vector<float>& got, const std::vector<float>& want,
                     std::span<const std::int32_t> rows, std::size_t vocab) {
  std::vector<float> errors;
  for (std::size_t r = 0; r < want.size() / vocab; ++r) {
    double difference = 0, size = 0;
    for (std::size_t v = 0; v < vocab; ++v) {
      const double w = static_cast<double>(want[r * vocab + v]);
      const double g = static_cast<double>(got[static_cast<std::size_t>(rows[r]) * vocab + v]);
      difference += (g - w) * (g - w);
      size += w * w;
    }
    errors.push_back(static_cast<float>(std::sqrt(difference / size)));
  }
  std::sort(errors.begin(), errors.end());
  const auto below = std::lower_bound(errors.begin(), errors.end(), 0.15f) - errors.begin();
  return {errors[errors.size() / 2], static_cast<float>(below) / static_cast<float>(errors.size())};
}

class Case {
 public:
  Case(const std::filesystem::path& dir, const BackendOptions& backend, Report& report)
      : dir_(dir), backend_(backend), report_(report), want_(dir) {
    const std::string where =
        backend.device == Device::cpu ? backend.kernel_set : std::string(to_string(backend.device));
    name_ = dir.filename().string() + (where.empty() ? "" : " [" + where + "]");
    ids_ = want_.values<std::int32_t>("ids");
    rows_ = want_.values<std::int32_t>("rows");
  }

  void run() {
    const bool mtp = want_.has("exact.mtp_logits");
    const Model model = load(dir_, Numerics::exact, mtp, ids_.size(), backend_);
    vocab_ = static_cast<std::size_t>(model.config().vocab_size);
    const Traced exact = trace(model, mtp, ids_);
    compare_exact(model, exact, mtp);
    if (!want_.has("native.logits")) return;
    const Traced native =
        trace(load(dir_, Numerics::native, mtp, ids_.size(), backend_), mtp, ids_);
    compare_native(native, mtp);
    const RowErrors control = errors(exact.logits, "native.logits");
    result("control: exact logits fail as native ones", !native_ok(control),
           formatted("median {:.4f}, {:.0f}% below 15%", control.median, 100 * control.below_15));
  }

 private:
  void result(const std::string& what, bool ok, const std::string& detail) {
    report_.result(name_ + " " + what, ok, detail);
  }
  static bool native_ok(const RowErrors& e) { return e.median <= 0.02f && e.below_15 >= 0.9f; }
  RowErrors errors(const std::vector<float>& got, const std::string& name) const {
    return row_errors(got, want_.values<float>(name), rows_, vocab_);
  }

  float max_difference(const std::vector<float>& got, const std::string& name) const {
    const std::vector<float> want = want_.values<float>(name);
    test::Worst worst;
    for (std::size_t i = 0; i < want.size(); ++i) {
      const auto row = static_cast<std::size_t>(rows_[i / vocab_]);
      worst.add(test::difference(got[row * vocab_ + i % vocab_], want[i]));
    }
    return static_cast<float>(worst.value());
  }

  // The row of layer `layer` at position rows_[r], of lists with `width` entries.
  static std::span<const std::int32_t> line(const std::vector<std::vector<std::int32_t>>& lists,
                                            std::size_t layer, std::int32_t position,
                                            std::size_t width) {
    return std::span(lists[layer]).subspan(static_cast<std::size_t>(position) * width, width);
  }

  void compare_exact(const Model& model, const Traced& got, bool mtp) {
    const float logits = max_difference(got.logits, "exact.logits");
    result("exact logits", logits <= kExactTolerance, formatted("max {:.1e}", logits));
    const auto continuation = want_.values<std::int32_t>("exact.greedy");
    const auto mine = greedy(model, std::span(ids_).first(ids_.size() / 2), continuation.size());
    result("exact greedy", mine == continuation, formatted("{} tokens", mine.size()));
    compare_experts(got);
    if (!got.topk.empty()) compare_keys(got);
    if (!mtp) return;
    const float drafts = max_difference(got.mtp, "exact.mtp_logits");
    result("exact mtp", drafts <= kExactTolerance, formatted("max {:.1e}", drafts));
  }

  void compare_experts(const Traced& got) {
    const auto want = want_.values<std::int32_t>("exact.experts");
    const auto width = static_cast<std::size_t>(want_.shape("exact.experts")[2]);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < want.size() / width; ++i) {
      const auto mine = line(got.experts, i / rows_.size(), rows_[i % rows_.size()], width);
      wrong += !std::equal(mine.begin(), mine.end(),
                           want.begin() + static_cast<std::ptrdiff_t>(i * width));
    }
    result("exact experts", wrong == 0, formatted("{} rows differ", wrong));
  }

  // The widths of our lists is index_topk, the file's min(index_topk, n).
  std::size_t my_width(const Traced& got) const { return got.topk[0].size() / ids_.size(); }

  void compare_keys(const Traced& got) {
    const auto want = want_.values<std::int32_t>("exact.topk");
    const auto margin = want_.values<float>("exact.topk_margin");
    const auto width = static_cast<std::size_t>(want_.shape("exact.topk")[2]);
    std::size_t wrong = 0, skipped = 0;
    for (std::size_t i = 0; i < margin.size(); ++i) {
      const auto mine = line(got.topk, i / rows_.size(), rows_[i % rows_.size()], my_width(got));
      const bool same = std::equal(mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(width),
                                   want.begin() + static_cast<std::ptrdiff_t>(i * width));
      (margin[i] > kSmallMargin ? wrong : skipped) += !same;
    }
    result("exact keys", wrong == 0,
           formatted("{} sets differ, {} below the margin", wrong, skipped));
  }

  void compare_native(const Traced& got, bool mtp) {
    const RowErrors logits = errors(got.logits, "native.logits");
    result("native logits", native_ok(logits),
           formatted("median {:.4f}, {:.0f}% below 15%", logits.median, 100 * logits.below_15));
    if (!got.topk.empty()) compare_overlap(got);
    if (!mtp) return;
    const RowErrors drafts = errors(got.mtp, "native.mtp_logits");
    result("native mtp", drafts.median <= 0.05f && drafts.below_15 >= 0.85f,
           formatted("median {:.4f}, {:.0f}% below 15%", drafts.median, 100 * drafts.below_15));
  }

  void compare_overlap(const Traced& got) {
    const auto want = want_.values<std::int32_t>("native.topk");
    const auto width = static_cast<std::size_t>(want_.shape("native.topk")[2]);
    double worst = 1;
    for (std::size_t layer = 0; layer < got.topk.size(); ++layer) {
      double sum = 0;
      for (std::size_t r = 0; r < rows_.size(); ++r) {
        const auto mine = line(got.topk, layer, rows_[r], my_width(got));
        const std::int32_t* theirs = want.data() + (layer * rows_.size() + r) * width;
        double common = 0, all = 0;
        for (std::size_t i = 0; i < width && theirs[i] >= 0; ++i) {
          common += std::find(mine.begin(), mine.end(), theirs[i]) != mine.end();
          ++all;
        }
        sum += common / all;
      }
      worst = std::min(worst, sum / static_cast<double>(rows_.size()));
    }
    result("native keys", worst >= 0.98,
           formatted("mean overlap of the worst layer {:.4f}", worst));
  }

  std::filesystem::path dir_;
  BackendOptions backend_;
  std::string name_;
  Report& report_;
  Expected want_;
  std::vector<std::int32_t> ids_, rows_;
  std::size_t vocab_ = 0;
};

}  // namespace

int run_model(const Args& args) {
  Report report;
  Args dirs = args;
  std::vector<BackendOptions> backends(1);  // the CPU's best
  if (dirs.size() >= 2 && dirs[0] == "--kernels") {
    const Args sets = dirs[1] == "all" ? test::only_tested(available_backends().front().kernel_sets)
                                       : Args{dirs[1]};
    backends.clear();
    for (const std::string& set : sets) {
      if (set == "reference" && sets.size() > 1) continue;  // the oracle: slow
      backends.push_back({.kernel_set = set});
    }
    dirs.erase(dirs.begin(), dirs.begin() + 2);
  } else if (dirs.size() >= 2 && dirs[0] == "--module") {
    backends = {{.device = Device::cuda, .module_path = dirs[1]}};
    dirs.erase(dirs.begin(), dirs.begin() + 2);
  }
  if (dirs.empty())
    throw UsageError("usage: model [--kernels NAME|all | --module LIBDSV32_CUDA.so] DIR...");
  for (const std::string& dir : dirs) {
    for (const BackendOptions& backend : backends) {
      try {
        Case(dir, backend, report).run();
      } catch (const Error& error) {
        report.result(dir, false, error.what());
      }
    }
  }
  return report.finish();
}

}  // namespace dsv32::conformance
