#include <stdint.h>

#include "products.c"

/* TFLite's CONV_2D of one tap (reference/integer_ops/conv.h): a matrix product over all positions. */
typedef struct {
  requantization to; /* with biases of which zero points are taken off */
  const int8_t *weights; /* outputs x channels */
  int32_t positions;
  int16_t channels, outputs;
} pointwise_layer;

static void pointwise(const pointwise_layer *layer, const int8_t *input, int8_t *output) {
  const int32_t outputs = layer->outputs;
  products(&layer->to, layer->weights, outputs, layer->channels, input, layer->positions, output, outputs);
}
