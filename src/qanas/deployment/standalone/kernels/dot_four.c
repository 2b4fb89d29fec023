#include <stdint.h>

#include "dsp.c"

/* The sums of the products of a row of codes and each of four rows, which lie `apart`. */
static void dot_four(const int8_t *codes, const int8_t *rows, int32_t apart, int32_t count, int32_t *sums) {
  const int8_t *v = rows, *w = v + apart, *x = w + apart, *y = x + apart;
  int32_t of_v = 0, of_w = 0, of_x = 0, of_y = 0;
#ifdef QANAS_DSP
  for (; count >= 4; count -= 4, codes += 4, v += 4, w += 4, x += 4, y += 4) {
    const uint32_t word = four_bytes(codes), even = even_bytes(word), odd = odd_bytes(word);
    const uint32_t in_v = four_bytes(v), in_w = four_bytes(w), in_x = four_bytes(x), in_y = four_bytes(y);
    of_v = add_products(odd, odd_bytes(in_v), add_products(even, even_bytes(in_v), of_v));
    of_w = add_products(odd, odd_bytes(in_w), add_products(even, even_bytes(in_w), of_w));
    of_x = add_products(odd, odd_bytes(in_x), add_products(even, even_bytes(in_x), of_x));
    of_y = add_products(odd, odd_bytes(in_y), add_products(even, even_bytes(in_y), of_y));
  }
#endif
  for (; count > 0; --count) {
    const int32_t code = *codes++;
    of_v += code * *v++;
    of_w += code * *w++;
    of_x += code * *x++;
    of_y += code * *y++;
  }
  sums[0] = of_v;
  sums[1] = of_w;
  sums[2] = of_x;
  sums[3] = of_y;
}
