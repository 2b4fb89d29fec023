#include <stdint.h>
#include <string.h>

/* TFLite's RESIZE_NEAREST_NEIGHBOR (reference/resize_nearest_neighbor.h); which rows and columns is in tables. */
typedef struct {
  int16_t columns, channels, out_rows, out_columns;
  const int16_t *from_rows, *from_columns;
} resize_nearest_layer;

static void resize_nearest(const resize_nearest_layer *layer, const int8_t *input, int8_t *output) {
  int32_t row, column;
  for (row = 0; row < layer->out_rows; ++row) {
    const int8_t *from = input + layer->from_rows[row] * layer->columns * layer->channels;
    for (column = 0; column < layer->out_columns; ++column, output += layer->channels) {
      memcpy(output, from + layer->from_columns[column] * layer->channels, (size_t)layer->channels);
    }
  }
}
