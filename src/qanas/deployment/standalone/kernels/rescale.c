#include <stdint.h>

#include "divide_by_power.c"

/* value * multiplier / 2^31 * 2^exponent, rounded after the product and once more after the shift, as TFLite's
   MultiplyByQuantizedMultiplier (tensorflow/lite/kernels/internal/common.cc). What an exponent above 0 takes beyond 32
   bits is cut off: it is saturated behind this anyway. */
static int32_t rescale(int32_t value, int32_t multiplier, int exponent) {
  int32_t high;
  if (exponent > 0) {
    const int32_t most = INT32_MAX >> exponent;
    value = (value > most ? most : value < -most ? -most : value) * (int32_t)(1u << exponent);
    exponent = 0;
  }
  high = (int32_t)(((int64_t)value * multiplier + (1 << 30)) >> 31);
  return divide_by_power(high, -exponent);
}
