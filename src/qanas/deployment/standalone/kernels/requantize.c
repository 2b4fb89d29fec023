#include <stdint.h>

#include "clamp.c"
#include "rescale.c"

/* From sums to codes by channel: multipliers and exponents of `rescale`, the output's zero point, where codes end. */
typedef struct {
  const int32_t *biases; /* zero points are taken off: sums are of codes */
  const int32_t *multipliers;
  const int8_t *exponents;
  int16_t zero_point, low, high;
} requantization;

static int8_t requantize(const requantization *to, int32_t channel, int32_t sum) {
  const int32_t steps = rescale(sum, to->multipliers[channel], to->exponents[channel]);
  return (int8_t)clamp(steps + to->zero_point, to->low, to->high);
}
