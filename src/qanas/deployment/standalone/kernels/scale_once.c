#include <stdint.h>

/* sum * multiplier / 2^shift, rounded once, ties away from zero: what TFLite's reference kernel computes in double
   precision. That no sum that can occur is rounded otherwise was checked for every multiplier when this was made. */
static int32_t scale_once(int32_t sum, int64_t multiplier, int shift) {
  const int64_t product = sum * multiplier, half = (int64_t)1 << (shift - 1);
  return (int32_t)(product < 0 ? -((half - product) >> shift) : (product + half) >> shift);
}
