#include <stdint.h>

#include "pairs.c"

/* TFLite's MAXIMUM and MINIMUM (reference/maximum_minimum.h). */
typedef struct {
  pairs over;
  int32_t takes_larger;
} extreme_of_two_layer;

static void extreme_of_two_row(const void *of, const int8_t *left, int32_t left_step, const int8_t *right,
                               int32_t right_step, int8_t *output, int32_t count) {
  const int takes_larger = ((const extreme_of_two_layer *)of)->takes_larger != 0;
  for (; count > 0; --count, left += left_step, right += right_step) {
    *output++ = (*left > *right) == takes_larger ? *left : *right;
  }
}

static void extreme_of_two(const extreme_of_two_layer *layer, const int8_t *left, const int8_t *right,
                           int8_t *output) {
  for_pairs(&layer->over, extreme_of_two_row, layer, left, right, output);
}
