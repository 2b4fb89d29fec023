#include <stdint.h>

#include "dot.c"
#include "requantize.c"
#include "total.c"
#include "window.c"

/* TFLite's TRANSPOSE_CONV (reference/integer_ops/transpose_conv.h), seen from the output: which taps of which inputs
   come to lie there. */
typedef struct {
  requantization to; /* with biases as they are */
  const int8_t *weights; /* outputs x tap rows x tap columns x channels */
  window over;
  int16_t channels, outputs;
  int16_t zero_point; /* of the input */
} transpose_conv_layer;

static void transpose_conv(const transpose_conv_layer *layer, const int8_t *input, int8_t *output) {
  const window *over = &layer->over;
  const int32_t channels = layer->channels;
  int32_t row, column, channel, tap_row, tap_column;
  for (row = 0; row < over->out_rows; ++row) {
    for (column = 0; column < over->out_columns; ++column) {
      const int8_t *weights = layer->weights;
      for (channel = 0; channel < layer->outputs; ++channel) {
        int32_t sum = layer->to.biases[channel];
        for (tap_row = 0; tap_row < over->tap_rows; ++tap_row) {
          const int32_t y = row + over->above - tap_row, from_row = y / over->stride_rows;
          for (tap_column = 0; tap_column < over->tap_columns; ++tap_column, weights += channels) {
            const int32_t x = column + over->left - tap_column, from = x / over->stride_columns;
            if (y >= 0 && x >= 0 && from_row * over->stride_rows == y && from * over->stride_columns == x &&
                from_row < over->rows && from < over->columns) {
              sum += dot(input + (from_row * over->columns + from) * channels, weights, channels) -
                     layer->zero_point * total(weights, channels);
            }
          }
        }
        *output++ = requantize(&layer->to, channel, sum);
      }
    }
  }
}
