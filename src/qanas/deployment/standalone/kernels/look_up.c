#include <stdint.h>

/* Any function of one code, by a table of the results for -128 to 127. */
static void look_up(const int8_t *table, const int8_t *input, int8_t *output, int32_t count) {
  for (; count > 0; --count) {
    *output++ = table[*input++ + 128];
  }
}
