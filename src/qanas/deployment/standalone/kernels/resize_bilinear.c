#include <stdint.h>

#include "clamp.c"

/* TFLite's RESIZE_BILINEAR of codes (reference/resize_bilinear.h): a pixel has 2^10 steps. */
typedef struct {
  int16_t rows, columns, channels, out_rows, out_columns;
  int32_t row_scale, column_scale; /* steps from one output to the next */
  int32_t row_start, column_start; /* of the first one */
} resize_bilinear_layer;

static void resize_bilinear(const resize_bilinear_layer *layer, const int8_t *input, int8_t *output) {
  const int32_t channels = layer->channels, width = layer->columns * channels;
  int32_t row, column, channel;
  for (row = 0; row < layer->out_rows; ++row) {
    const int32_t y = row * layer->row_scale + layer->row_start;
    const int32_t upper = (y > 0 ? y : 0) >> 10, lower = clamp((y + 1023) >> 10, 0, layer->rows - 1);
    const int64_t of_lower = y - upper * 1024, of_upper = 1024 - of_lower;
    for (column = 0; column < layer->out_columns; ++column) {
      const int32_t x = column * layer->column_scale + layer->column_start;
      const int32_t left = (x > 0 ? x : 0) >> 10, right = clamp((x + 1023) >> 10, 0, layer->columns - 1);
      const int64_t of_right = x - left * 1024, of_left = 1024 - of_right;
      for (channel = 0; channel < channels; ++channel) {
        const int8_t *from = input + channel;
        const int64_t sum = from[upper * width + left * channels] * of_upper * of_left +
                            from[lower * width + left * channels] * of_lower * of_left +
                            from[upper * width + right * channels] * of_upper * of_right +
                            from[lower * width + right * channels] * of_lower * of_right;
        /* Rounded, ties away from zero. */
        *output++ = (int8_t)((sum + (sum > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
      }
    }
  }
}
