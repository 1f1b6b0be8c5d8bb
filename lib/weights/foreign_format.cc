#include "lib/weights/foreign_format.h"

#include <array>
#include <string_view>

#include "lib/base/check.h"
#include "lib/config/supported.h"

namespace dsv32 {
namespace {

struct Sign {
  std::string_view name_ends;
  std::string_view dtype;  // empty: any
  std::string_view format;
};

constexpr std::string_view kOwnScale = ".weight_scale";

// The first that any tensor bears wins, so what tells more stands first.
constexpr std::array kSigns = {
    Sign{".weight_scale_2", "", "NVFP4 (ModelOpt)"},
    Sign{".weight_packed", "", "compressed-tensors, packed"},
    Sign{".weight_global_scale", "", "compressed-tensors, NVFP4"},
    Sign{".qzeros", "", "AWQ or GPTQ"},
    Sign{".qweight", "", "AWQ or GPTQ"},
    Sign{".gate_up_proj_blocks", "", "MXFP4"},
    Sign{".gate_up_proj_scale_inv", "", "fused experts in FP8"},
    Sign{".gate_up_proj", "F8_E4M3", "fused experts in FP8"},
    Sign{".lora_A.weight", "", "LoRA, an adapter without its model"},
    Sign{".input_scale", "", "FP8 with static activations (ModelOpt)"},
    Sign{kOwnScale, "", "compressed-tensors or ModelOpt, whose scales are named weight_scale"},
};

}  // namespace

std::optional<Problem> foreign_format(std::span<const TensorInfo> tensors, bool own_scales) {
  for (const Sign& sign : kSigns) {
    if (own_scales && sign.name_ends == kOwnScale) continue;
    for (const TensorInfo& tensor : tensors) {
      if (!tensor.name.ends_with(sign.name_ends)) continue;
      if (!sign.dtype.empty() && tensor.dtype != sign.dtype) continue;
      return Problem{ErrorCode::unsupported,
                     formatted("tensor {} is of a format that is not supported: {}; {}",
                               quote(tensor.name), sign.format, kSupportedWeights)};
    }
  }
  return {};
}

}  // namespace dsv32
