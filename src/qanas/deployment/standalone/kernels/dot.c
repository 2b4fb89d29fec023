#include <stdint.h>

#include "dsp.c"

/* The sum of the products of two rows of codes. */
static int32_t dot(const int8_t *one, const int8_t *other, int32_t count) {
  int32_t sum = 0;
#ifdef QANAS_DSP
  for (; count >= 4; count -= 4, one += 4, other += 4) {
    const uint32_t first = four_bytes(one), second = four_bytes(other);
    sum = add_products(even_bytes(first), even_bytes(second), sum);
    sum = add_products(odd_bytes(first), odd_bytes(second), sum);
  }
#endif
  for (; count > 0; --count) {
    sum += *one++ * *other++;
  }
  return sum;
}
