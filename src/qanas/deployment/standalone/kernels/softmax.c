#include <stdint.h>

#include "clamp.c"
#include "differences.c"

/* TFLite's SOFTMAX of codes (reference/softmax.h). */
typedef struct {
  differences of;
  int32_t rows;
} softmax_layer;

static void softmax(const softmax_layer *layer, const int8_t *input, int8_t *output) {
  const int32_t classes = layer->of.classes;
  int32_t row, at;
  for (row = 0; row < layer->rows; ++row, input += classes, output += classes) {
    const int32_t most = largest_code(input, classes), sum = sum_of_exponentials(&layer->of, input, most);
    const int zeros = leading_zeros(sum);
    const int shift = zeros < 4 ? 31 : 35 - zeros; /* TFLite stops where so many are nearly equal */
    const int32_t inverse = one_over_one_plus_long((int32_t)(((uint32_t)sum << zeros) - 0x80000000u));
    for (at = 0; at < classes; ++at) {
      const int32_t share = multiply_long(inverse, exp_of_difference(&layer->of, most - input[at]));
      output[at] = (int8_t)clamp(divide_by_power(share, shift) + INT8_MIN, INT8_MIN, INT8_MAX);
    }
  }
}
