#include <stdint.h>

/* The sum of a row of codes. */
static int32_t total(const int8_t *codes, int32_t count) {
  int32_t sum = 0;
  for (; count > 0; --count) {
    sum += *codes++;
  }
  return sum;
}
