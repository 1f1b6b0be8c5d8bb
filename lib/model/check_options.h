// The door for options: what no load would take is refused here, before a file is opened.
#ifndef DSV32_LIB_MODEL_CHECK_OPTIONS_H_
#define DSV32_LIB_MODEL_CHECK_OPTIONS_H_

#include "dsv32/checkpoint.h"
#include "dsv32/model.h"

namespace dsv32 {

// What a plan must know to come to the numbers of such a load.
PlanOptions plan_options(const LoadOptions& options);

// Both throw invalid_argument for values out of range, unsupported for what this build or machine
// has not. The message names the field. What depends on a model is for forward_options().
void check_options(const PlanOptions& options);
void check_options(const LoadOptions& options);

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_CHECK_OPTIONS_H_
