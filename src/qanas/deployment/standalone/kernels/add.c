#include <stdint.h>

#include "clamp.c"
#include "pairs.c"
#include "rescale.c"

/* TFLite's ADD and SUB (reference/integer_ops/add.h): both inputs in steps of 2^-20 of twice the coarser one's. */
typedef struct {
  pairs over;
  int32_t left_multiplier, right_multiplier, multiplier;
  int8_t left_exponent, right_exponent, exponent;
  int8_t subtracts;
  int16_t left_zero_point, right_zero_point, zero_point, low, high;
} add_layer;

static void add_row(const void *of, const int8_t *left, int32_t left_step, const int8_t *right, int32_t right_step,
                    int8_t *output, int32_t count) {
  const add_layer *layer = (const add_layer *)of;
  for (; count > 0; --count, left += left_step, right += right_step) {
    const int32_t one = (*left - layer->left_zero_point) * (1 << 20);
    const int32_t other = (*right - layer->right_zero_point) * (1 << 20);
    const int32_t first = rescale(one, layer->left_multiplier, layer->left_exponent);
    const int32_t second = rescale(other, layer->right_multiplier, layer->right_exponent);
    const int32_t sum = layer->subtracts ? first - second : first + second;
    const int32_t code = rescale(sum, layer->multiplier, layer->exponent) + layer->zero_point;
    *output++ = (int8_t)clamp(code, layer->low, layer->high);
  }
}

static void add(const add_layer *layer, const int8_t *left, const int8_t *right, int8_t *output) {
  for_pairs(&layer->over, add_row, layer, left, right, output);
}
