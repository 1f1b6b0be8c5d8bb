// What messages about other formats name as the way out.
#ifndef DSV32_LIB_CONFIG_SUPPORTED_H_
#define DSV32_LIB_CONFIG_SUPPORTED_H_

namespace dsv32 {

inline constexpr const char* kSupportedWeights =
    "supported are BF16, F16, F32, FP8 e4m3 with a scale per 128 x 128 and dynamic activations, "
    "and INT8 and INT4 of `dsv32 quantize`";

}  // namespace dsv32

#endif  // DSV32_LIB_CONFIG_SUPPORTED_H_
