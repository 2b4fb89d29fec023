#include <stdint.h>

#include "clamp.c"
#include "rescale.c"

/* From sums to codes by channel: multipliers and exponents of `rescale`, the output's zero point, where codes end. */
typedef struct {
  const int32_t *biases;
  const int32_t *multipliers;
  const int8_t *exponents;
  int16_t zero_point, low, high;
} requantization;

static inline int8_t requantize(const requantization *to, int32_t channel, int32_t sum) {
  const int32_t multiplier = to->multipliers[channel];
  const int exponent = to->exponents[channel];
  int32_t steps;
  if (exponent < 0) {
    /* What `rescale` does, in fewer instructions: a half is added to the size. */
    const int32_t high = (int32_t)(((int64_t)sum * multiplier + (1 << 30)) >> 31);
    steps = (high + (1 << (-exponent - 1)) + (high >> 31)) >> -exponent;
  } else {
    steps = rescale(sum, multiplier, exponent);
  }
  return (int8_t)clamp(steps + to->zero_point, to->low, to->high);
}
