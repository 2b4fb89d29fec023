#include <stdint.h>

#include "clamp.c"
#include "dot.c"
#include "scale_once.c"

/* TFLite's FULLY_CONNECTED (reference/integer_ops/fully_connected.h, rounded as scale_once says). */
typedef struct {
  int32_t rows, features;
  int16_t outputs;
  int16_t by_output;             /* whether each output has a factor of its own */
  int16_t zero_point, low, high; /* of the output, and where its codes end */
  const int8_t *weights;         /* outputs x features */
  const int32_t *biases;         /* zero points are taken off */
  const int32_t *factors;        /* two numbers each */
  const int8_t *shifts;
} dense_layer;

static void dense(const dense_layer *layer, const int8_t *input, int8_t *output) {
  int32_t row, at;
  for (row = 0; row < layer->rows; ++row) {
    const int8_t *weights = layer->weights;
    for (at = 0; at < layer->outputs; ++at) {
      const int32_t sum = layer->biases[at] + dot(input, weights, layer->features);
      const int32_t factor = layer->by_output ? at : 0;
      const int32_t code = scale_once(sum, layer->factors + 2 * factor, layer->shifts[factor]);
      *output++ = (int8_t)clamp(code + layer->zero_point, layer->low, layer->high);
      weights += layer->features;
    }
    input += layer->features;
  }
}
