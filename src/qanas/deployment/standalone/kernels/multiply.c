#include <stdint.h>

#include "clamp.c"
#include "pairs.c"
#include "rescale.c"

/* TFLite's MUL (reference/integer_ops/mul.h). */
typedef struct {
  pairs over;
  int32_t multiplier;
  int16_t exponent;
  int16_t left_zero_point, right_zero_point, zero_point, low, high;
} multiply_layer;

static void multiply_row(const void *of, const int8_t *left, int32_t left_step, const int8_t *right,
                         int32_t right_step, int8_t *output, int32_t count) {
  const multiply_layer *layer = (const multiply_layer *)of;
  for (; count > 0; --count, left += left_step, right += right_step) {
    const int32_t product = (*left - layer->left_zero_point) * (*right - layer->right_zero_point);
    const int32_t code = rescale(product, layer->multiplier, layer->exponent) + layer->zero_point;
    *output++ = (int8_t)clamp(code, layer->low, layer->high);
  }
}

static void multiply(const multiply_layer *layer, const int8_t *left, const int8_t *right, int8_t *output) {
  for_pairs(&layer->over, multiply_row, layer, left, right, output);
}
