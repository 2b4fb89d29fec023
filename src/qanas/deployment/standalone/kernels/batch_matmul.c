#include <stdint.h>

#include "clamp.c"
#include "dot.c"
#include "rescale.c"
#include "total.c"

/* TFLite's BATCH_MATMUL of codes (reference/batch_matmul.h): rows of one value with rows of the other. */
typedef struct {
  int32_t count, rows, columns, inner;
  int32_t multiplier;
  int16_t exponent;
  int16_t left_zero_point, right_zero_point, zero_point;
} batch_matmul_layer;

static void batch_matmul(const batch_matmul_layer *layer, const int8_t *left, const int8_t *right, int8_t *output) {
  const int32_t inner = layer->inner, of_left = layer->left_zero_point, of_right = layer->right_zero_point;
  int32_t at, row, column;
  for (at = 0; at < layer->count; ++at, right += layer->columns * inner) {
    for (row = 0; row < layer->rows; ++row, left += inner) {
      const int32_t of_row = inner * of_left * of_right - of_right * total(left, inner);
      for (column = 0; column < layer->columns; ++column) {
        const int8_t *other = right + column * inner;
        const int32_t sum = of_row + dot(left, other, inner) - of_left * total(other, inner);
        const int32_t steps = rescale(sum, layer->multiplier, layer->exponent);
        *output++ = (int8_t)clamp(steps + layer->zero_point, INT8_MIN, INT8_MAX);
      }
    }
  }
}
