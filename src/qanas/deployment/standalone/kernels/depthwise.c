#include <stdint.h>

#include "dsp.c"
#include "requantize.c"
#include "window.c"

/* TFLite's DEPTHWISE_CONV_2D (reference/integer_ops/depthwise_conv.h). */
typedef struct {
  requantization to;
  const int8_t *weights; /* tap rows x tap columns x outputs */
  window over;
  int16_t channels;
  int16_t multiplier; /* outputs of a channel */
  int16_t zero_point; /* of the input: what padding has */
} depthwise_layer;

#ifdef QANAS_DSP
/* Four channels at once, where the whole window lies on the input. */
static void depthwise_four(const depthwise_layer *layer, const requantization *to, const int8_t *input, int32_t out,
                           int8_t *output) {
  const int32_t channels = layer->channels, tap_columns = layer->over.tap_columns;
  const int32_t right = layer->over.gap_columns * channels;
  const int32_t down = layer->over.gap_rows * layer->over.columns * channels - tap_columns * right;
  const int8_t *taps = layer->weights + out;
  int32_t one = to->biases[out], two = to->biases[out + 1], three = to->biases[out + 2], four = to->biases[out + 3];
  int32_t tap_row, tap;
  for (tap_row = layer->over.tap_rows; tap_row > 0; --tap_row, input += down) {
    for (tap = tap_columns; tap > 0; --tap, input += right, taps += channels) {
      const uint32_t codes = four_bytes(input), weights = four_bytes(taps);
      const uint32_t even = even_bytes(codes), odd = odd_bytes(codes);
      const uint32_t even_weights = even_bytes(weights), odd_weights = odd_bytes(weights);
      one += (int16_t)even * (int16_t)even_weights;
      two += (int16_t)odd * (int16_t)odd_weights;
      three += (int16_t)(even >> 16) * (int16_t)(even_weights >> 16);
      four += (int16_t)(odd >> 16) * (int16_t)(odd_weights >> 16);
    }
  }
  output[0] = requantize(to, out, one);
  output[1] = requantize(to, out + 1, two);
  output[2] = requantize(to, out + 2, three);
  output[3] = requantize(to, out + 3, four);
}
#endif

/* One output of a window that may reach beyond the input. */
static int32_t depthwise_one(const depthwise_layer *layer, const int8_t *input, int32_t top, int32_t left,
                             int32_t out) {
  const window *over = &layer->over;
  const int32_t outputs = layer->channels * layer->multiplier;
  const int32_t channel = layer->multiplier == 1 ? out : out / layer->multiplier;
  const int8_t *weights = layer->weights + out;
  int32_t sum = layer->to.biases[out], tap_row, tap;
  for (tap_row = 0; tap_row < over->tap_rows; ++tap_row, top += over->gap_rows) {
    for (tap = 0; tap < over->tap_columns; ++tap, weights += outputs) {
      const int32_t at = left + tap * over->gap_columns;
      const int is_inside = top >= 0 && top < over->rows && at >= 0 && at < over->columns;
      const int32_t code = is_inside ? input[(top * over->columns + at) * layer->channels + channel] : layer->zero_point;
      sum += code * *weights;
    }
  }
  return sum;
}

static void depthwise(const depthwise_layer *layer, const int8_t *input, int8_t *output) {
  const window *over = &layer->over;
  const requantization to = layer->to;
  const int32_t outputs = layer->channels * layer->multiplier;
  int32_t row, column;
  for (row = 0; row < over->out_rows; ++row) {
    for (column = 0; column < over->out_columns; ++column, output += outputs) {
      const int32_t top = row * over->stride_rows - over->above, left = column * over->stride_columns - over->left;
      int32_t out = 0;
#ifdef QANAS_DSP
      const int is_whole = layer->multiplier == 1 && top >= 0 && left >= 0 &&
                           top + (over->tap_rows - 1) * over->gap_rows < over->rows &&
                           left + (over->tap_columns - 1) * over->gap_columns < over->columns;
      const int8_t *first = is_whole ? input + (top * over->columns + left) * outputs : input;
      for (; is_whole && out + 3 < outputs; out += 4) {
        depthwise_four(layer, &to, first + out, out, output + out);
      }
#endif
      for (; out < outputs; ++out) {
        output[out] = requantize(&to, out, depthwise_one(layer, input, top, left, out));
      }
    }
  }
}
