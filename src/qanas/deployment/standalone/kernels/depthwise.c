#include <stdint.h>

#include "dsp.c"
#include "requantize.c"
#include "window.c"

/* TFLite's DEPTHWISE_CONV_2D (reference/integer_ops/depthwise_conv.h). */
typedef struct {
  requantization to; /* with biases as they are */
  const int8_t *weights; /* tap rows x tap columns x outputs */
  window over;
  int16_t channels;
  int16_t multiplier; /* outputs of a channel */
  int16_t zero_point; /* of the input */
} depthwise_layer;

/* The taps that lie on the input: first to last, rows and columns. */
typedef struct {
  int32_t first_row, last_row, first, last;
} taps_on_input;

#ifdef QANAS_DSP
/* Four channels at once. */
static void depthwise_four(const depthwise_layer *layer, const requantization *to, const taps_on_input *on,
                           const int8_t *input, int32_t out, int8_t *output) {
  const int32_t channels = layer->channels, count = on->last - on->first;
  const int32_t right = layer->over.gap_columns * channels;
  const int32_t down = layer->over.gap_rows * layer->over.columns * channels - count * right;
  const int32_t skipped = (layer->over.tap_columns - count) * channels;
  const int8_t *taps = layer->weights + (on->first_row * layer->over.tap_columns + on->first) * channels + out;
  const uint32_t zero = (uint16_t)-layer->zero_point, zeros = zero << 16 | zero;
  int32_t one = to->biases[out], two = to->biases[out + 1], three = to->biases[out + 2], four = to->biases[out + 3];
  int32_t row, tap;
  for (row = on->last_row - on->first_row; row > 0; --row, input += down, taps += skipped) {
    for (tap = count; tap > 0; --tap, input += right, taps += channels) {
      const uint32_t codes = four_bytes(input), weights = four_bytes(taps);
      const uint32_t even = even_bytes_and(zeros, codes), odd = odd_bytes_and(zeros, codes);
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

static int32_t depthwise_one(const depthwise_layer *layer, const taps_on_input *on, const int8_t *input, int32_t out) {
  const window *over = &layer->over;
  const int32_t channels = layer->channels, outputs = channels * layer->multiplier;
  int32_t sum = layer->to.biases[out], row, tap;
  for (row = on->first_row; row < on->last_row; ++row, input += over->gap_rows * over->columns * channels) {
    const int8_t *weights = layer->weights + (row * over->tap_columns + on->first) * outputs + out;
    const int8_t *codes = input;
    for (tap = on->first; tap < on->last; ++tap, codes += over->gap_columns * channels, weights += outputs) {
      sum += (*codes - layer->zero_point) * *weights;
    }
  }
  return sum;
}

/* How many of the taps, `gap` apart from `start` on, lie in front of `end`. */
static int32_t taps_before(int32_t start, int32_t end, int32_t gap, int32_t taps) {
  return clamp((end - start + gap - 1) / gap, 0, taps);
}

static void depthwise(const depthwise_layer *layer, const int8_t *input, int8_t *output) {
  const window *over = &layer->over;
  const requantization to = layer->to;
  const int32_t channels = layer->channels, outputs = channels * layer->multiplier;
#ifdef QANAS_DSP
  const int32_t by_fours = layer->multiplier == 1 ? outputs & ~3 : 0;
#endif
  int32_t row, column;
  for (row = 0; row < over->out_rows; ++row) {
    const int32_t top = row * over->stride_rows - over->above;
    taps_on_input on;
    on.first_row = taps_before(top, 0, over->gap_rows, over->tap_rows);
    on.last_row = taps_before(top, over->rows, over->gap_rows, over->tap_rows);
    for (column = 0; column < over->out_columns; ++column, output += outputs) {
      const int32_t left = column * over->stride_columns - over->left;
      const int8_t *first;
      int32_t out = 0;
      on.first = taps_before(left, 0, over->gap_columns, over->tap_columns);
      on.last = taps_before(left, over->columns, over->gap_columns, over->tap_columns);
      first = input + (top + on.first_row * over->gap_rows) * over->columns * channels;
      first += (left + on.first * over->gap_columns) * channels;
#ifdef QANAS_DSP
      for (; out < by_fours; out += 4) {
        depthwise_four(layer, &to, &on, first + out, out, output + out);
      }
#endif
      for (; out < outputs; ++out) {
        const int32_t channel = layer->multiplier == 1 ? out : out / layer->multiplier;
        output[out] = requantize(&to, out, depthwise_one(layer, &on, first + channel, out));
      }
    }
  }
}
