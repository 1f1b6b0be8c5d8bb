// Matches what a config calls for against what the files hold: binding and finding fault are the
// same walk.
#ifndef DSV32_LIB_WEIGHTS_BINDER_H_
#define DSV32_LIB_WEIGHTS_BINDER_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "dsv32/checkpoint.h"
#include "dsv32/config.h"

#include "lib/base/tensor.h"
#include "lib/weights/shards.h"
#include "lib/weights/weights.h"

namespace dsv32 {

// Walks the model once. After the walk `problems` is empty or says what is wrong; `weights` is
// whole if it is empty. Gains are views of the file's data in the file's dtype: bind_weights copies
// them.
class Binder {
 public:
  Binder(const ModelConfig& config, const Shards& shards, const BindOptions& options);

  void walk();
  std::vector<Problem> problems() const;
  std::string unused() const;  // which tensors are not of this model; empty: all are
  ModelWeights weights;

 private:
  std::vector<Problem> found() const;
  void bind_top();
  void bind_mtp();
  LayerWeights layer(int index, bool dense);
  AttentionWeights attention(const std::string& prefix);
  IndexerWeights indexer(const std::string& prefix);
  MlpWeights mlp(const std::string& prefix, std::int64_t width);
  MoeWeights moe(const std::string& prefix);
  void fused_experts(const std::string& prefix, MoeWeights& out);

  const TensorInfo* require(const std::string& name, const std::vector<std::int64_t>& shape,
                            std::initializer_list<const char*> dtypes);
  Weight matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  Weight compact_matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  Weight plain_matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  TensorView gain(const std::string& name, std::int64_t cols);
  void check_quantised(const TensorInfo& tensor);
  Linear fp8(const TensorInfo& tensor, std::int64_t rows, std::int64_t cols);
  bool check_scales(const TensorInfo& scale);
  void check_values(const TensorInfo& tensor);
  void mark(const TensorInfo* tensor);
  void problem(ErrorCode code, std::string message);

  const ModelConfig& config_;
  const Shards& shards_;
  BindOptions options_;
  std::vector<bool> used_;
  std::vector<std::string> missing_;
  std::vector<Problem> problems_;
  std::size_t problem_count_ = 0;
  bool said_unquantised_ = false;
};

}  // namespace dsv32

#endif  // DSV32_LIB_WEIGHTS_BINDER_H_
