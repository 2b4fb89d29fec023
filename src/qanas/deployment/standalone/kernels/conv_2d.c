#include <stdint.h>
#include <string.h>

#include "products.c"
#include "window.c"

/* TFLite's CONV_2D (reference/integer_ops/conv.h), in groups of channels or whole. */
typedef struct {
  requantization to; /* with biases of which zero points are taken off */
  const int8_t *weights; /* outputs x tap rows x tap columns x channels of a group */
  window over;
  int16_t channels, outputs; /* of a group */
  int16_t groups;
  int16_t zero_point; /* of the input: what padding has */
} conv_2d_layer;

/* Copies what a window sees of a group's channels. */
static void gather(const conv_2d_layer *layer, const int8_t *input, int32_t top, int32_t left, int8_t *seen) {
  const window *over = &layer->over;
  const int32_t channels = layer->channels, width = channels * layer->groups;
  const int32_t span = over->tap_columns * channels;
  const int is_row = over->gap_columns == 1 && layer->groups == 1 && left >= 0 && left + over->tap_columns <= over->columns;
  int32_t tap_row, tap;
  for (tap_row = 0; tap_row < over->tap_rows; ++tap_row, top += over->gap_rows) {
    const int8_t *row = input + top * over->columns * width;
    if (top < 0 || top >= over->rows) {
      memset(seen, layer->zero_point, (size_t)span);
    } else if (is_row) {
      memcpy(seen, row + left * width, (size_t)span);
    } else {
      for (tap = 0; tap < over->tap_columns; ++tap) {
        const int32_t at = left + tap * over->gap_columns;
        if (at >= 0 && at < over->columns) {
          memcpy(seen + tap * channels, row + at * width, (size_t)channels);
        } else {
          memset(seen + tap * channels, layer->zero_point, (size_t)channels);
        }
      }
    }
    seen += span;
  }
}

/* In `seen` two windows are put side by side. */
static void conv_2d(const conv_2d_layer *layer, const int8_t *input, int8_t *seen, int8_t *output) {
  const window *over = &layer->over;
  const int32_t count = over->tap_rows * over->tap_columns * layer->channels, outputs = layer->outputs;
  const int32_t stride = outputs * layer->groups, positions = over->out_rows * over->out_columns;
  int32_t position, group, at;
  for (group = 0; group < layer->groups; ++group) {
    const int8_t *of_group = input + group * layer->channels;
    requantization to = layer->to;
    to.biases += group * outputs;
    to.multipliers += group * outputs;
    to.exponents += group * outputs;
    for (position = 0; position < positions; position += 2) {
      const int32_t taken = position + 1 < positions ? 2 : 1;
      for (at = 0; at < taken; ++at) {
        const int32_t row = (position + at) / over->out_columns, column = (position + at) % over->out_columns;
        gather(layer, of_group, row * over->stride_rows - over->above, column * over->stride_columns - over->left,
               seen + at * count);
      }
      products(&to, layer->weights + group * outputs * count, outputs, count, seen, taken,
               output + position * stride + group * outputs, stride);
    }
  }
}
