#include <stdint.h>

/* Two values, element by element, one repeated where it has fewer: the sizes of four axes, and how far the next number
   of each is. */
typedef struct {
  int32_t sizes[4], left[4], right[4];
} pairs;

/* Computes a row: so many codes, and how far the next number of each value is. */
typedef void (*row_of_pairs)(const void *layer, const int8_t *left, int32_t left_step, const int8_t *right,
                             int32_t right_step, int8_t *output, int32_t count);

static void for_pairs(const pairs *over, row_of_pairs compute, const void *layer, const int8_t *left,
                      const int8_t *right, int8_t *output) {
  int32_t one, two, three;
  for (one = 0; one < over->sizes[0]; ++one) {
    for (two = 0; two < over->sizes[1]; ++two) {
      for (three = 0; three < over->sizes[2]; ++three) {
        const int32_t from_left = one * over->left[0] + two * over->left[1] + three * over->left[2];
        const int32_t from_right = one * over->right[0] + two * over->right[1] + three * over->right[2];
        compute(layer, left + from_left, over->left[3], right + from_right, over->right[3], output, over->sizes[3]);
        output += over->sizes[3];
      }
    }
  }
}
