// What a model needs, computed in one place for Checkpoint::plan and Model::load.
#ifndef DSV32_LIB_MODEL_PLAN_H_
#define DSV32_LIB_MODEL_PLAN_H_

#include <cstdint>

#include "dsv32/checkpoint.h"

#include "lib/model/forward.h"
#include "lib/weights/shards.h"

namespace dsv32 {

// Throws as check_options(), and unsupported for what this model has not.
ForwardOptions forward_options(const ModelConfig& config, const PlanOptions& options);

Plan make_plan(const ModelConfig& config, const Shards& shards, const PlanOptions& options);

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_PLAN_H_
