#include <stdint.h>

#include "dot.c"
#include "requantize.c"

/* Every row of codes times every row of weights: positions x count and outputs x count to positions x outputs, whose
   rows are `stride` apart. */
static void products(const requantization *of, const int8_t *weights, int32_t outputs, int32_t count,
                     const int8_t *input, int32_t positions, int8_t *output, int32_t stride) {
  const requantization to = *of;
  int32_t at;
#ifdef QANAS_DSP
  /* Two positions and two outputs at once: each word is unpacked once for two products. */
  for (; positions > 1; positions -= 2, input += 2 * count, output += 2 * stride) {
    const int8_t *row = weights;
    for (at = 0; at + 1 < outputs; at += 2, row += 2 * count) {
      const int8_t *x = input, *y = input + count, *v = row, *w = row + count, *end = input + (count & ~3);
      int32_t xv = to.biases[at], xw = to.biases[at + 1], yv = xv, yw = xw;
      while (x != end) {
        const uint32_t of_x = four_bytes(x), of_y = four_bytes(y);
        const uint32_t x_even = even_bytes(of_x), y_even = even_bytes(of_y);
        const uint32_t x_odd = odd_bytes(of_x), y_odd = odd_bytes(of_y);
        const uint32_t of_v = four_bytes(v), v_even = even_bytes(of_v), v_odd = odd_bytes(of_v);
        uint32_t of_w, w_even, w_odd;
        xv = add_products(x_odd, v_odd, add_products(x_even, v_even, xv));
        yv = add_products(y_odd, v_odd, add_products(y_even, v_even, yv));
        of_w = four_bytes(w), w_even = even_bytes(of_w), w_odd = odd_bytes(of_w);
        xw = add_products(x_odd, w_odd, add_products(x_even, w_even, xw));
        yw = add_products(y_odd, w_odd, add_products(y_even, w_even, yw));
        x += 4, y += 4, v += 4, w += 4;
      }
      for (end = input + count; x != end; ++x, ++y, ++v, ++w) {
        xv += *x * *v;
        xw += *x * *w;
        yv += *y * *v;
        yw += *y * *w;
      }
      output[at] = requantize(&to, at, xv);
      output[at + 1] = requantize(&to, at + 1, xw);
      output[stride + at] = requantize(&to, at, yv);
      output[stride + at + 1] = requantize(&to, at + 1, yw);
    }
    if (at < outputs) {
      output[at] = requantize(&to, at, to.biases[at] + dot(input, row, count));
      output[stride + at] = requantize(&to, at, to.biases[at] + dot(input + count, row, count));
    }
  }
#endif
  for (; positions > 0; --positions, input += count, output += stride) {
    for (at = 0; at < outputs; ++at) {
      output[at] = requantize(&to, at, to.biases[at] + dot(input, weights + at * count, count));
    }
  }
}
