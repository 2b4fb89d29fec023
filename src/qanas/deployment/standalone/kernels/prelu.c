#include <stdint.h>

#include "clamp.c"
#include "pairs.c"
#include "rescale.c"

/* TFLite's PRELU (reference/prelu.h): values on the left, slopes on the right. */
typedef struct {
  pairs over;
  int32_t above_multiplier, below_multiplier;
  int8_t above_exponent, below_exponent;
  int16_t zero_point, slope_zero_point, output_zero_point;
} prelu_layer;

static void prelu_row(const void *of, const int8_t *left, int32_t left_step, const int8_t *right, int32_t right_step,
                      int8_t *output, int32_t count) {
  const prelu_layer *layer = (const prelu_layer *)of;
  for (; count > 0; --count, left += left_step, right += right_step) {
    const int32_t steps = *left - layer->zero_point;
    const int32_t product = steps * (*right - layer->slope_zero_point);
    const int32_t code = steps >= 0 ? rescale(steps, layer->above_multiplier, layer->above_exponent)
                                    : rescale(product, layer->below_multiplier, layer->below_exponent);
    *output++ = (int8_t)clamp(code + layer->output_zero_point, INT8_MIN, INT8_MAX);
  }
}

static void prelu(const prelu_layer *layer, const int8_t *values, const int8_t *slopes, int8_t *output) {
  for_pairs(&layer->over, prelu_row, layer, values, slopes, output);
}
