#include <stdint.h>

#include "window.c"

/* TFLite's AVERAGE_POOL_2D and MAX_POOL_2D (reference/integer_ops/pooling.h): of what of a window lies on the input. */
typedef struct {
  window over;
  int16_t channels;
  int16_t averages; /* or takes the largest */
} pool_layer;

static void pool(const pool_layer *layer, const int8_t *input, int8_t *output) {
  const window *over = &layer->over;
  int32_t row, column, channel, tap_row, tap_column;
  for (row = 0; row < over->out_rows; ++row) {
    for (column = 0; column < over->out_columns; ++column) {
      for (channel = 0; channel < layer->channels; ++channel) {
        int32_t sum = 0, most = INT8_MIN, count = 0;
        for (tap_row = 0; tap_row < over->tap_rows; ++tap_row) {
          const int32_t at_row = row * over->stride_rows - over->above + tap_row;
          for (tap_column = 0; tap_column < over->tap_columns; ++tap_column) {
            const int32_t at = column * over->stride_columns - over->left + tap_column;
            if (at_row >= 0 && at_row < over->rows && at >= 0 && at < over->columns) {
              const int32_t code = input[(at_row * over->columns + at) * layer->channels + channel];
              sum += code;
              most = code > most ? code : most;
              ++count;
            }
          }
        }
        /* Rounded, ties away from zero. */
        *output++ = (int8_t)(layer->averages ? (sum + (sum > 0 ? count / 2 : -(count / 2))) / count : most);
      }
    }
  }
}
