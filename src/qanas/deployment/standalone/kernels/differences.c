#include <stdint.h>

#include "exp_words.c"

/* How far codes are below the largest one, in Q5.26. */
typedef struct {
  int32_t multiplier;
  int16_t shift;
  int16_t classes;
  int32_t reach; /* the largest difference that counts */
} differences;

static int32_t fine_difference(const differences *of, int32_t below) {
  return multiply_long(-below * (int32_t)(1u << of->shift), of->multiplier);
}

static int32_t largest_code(const int8_t *codes, int32_t count) {
  int32_t most = INT8_MIN;
  for (; count > 0; --count, ++codes) {
    most = *codes > most ? *codes : most;
  }
  return most;
}

/* exp(code - largest) in Q0; 0 where it doesn't count. */
static int32_t exp_of_difference(const differences *of, int32_t below) {
  return below > of->reach ? 0 : exp_of_negative_long(fine_difference(of, below));
}

/* The sum of these in Q12.19. */
static int32_t sum_of_exponentials(const differences *of, const int8_t *codes, int32_t most) {
  int32_t sum = 0, at;
  for (at = 0; at < of->classes; ++at) {
    sum += divide_by_power(exp_of_difference(of, most - codes[at]), 12);
  }
  return sum;
}

static int leading_zeros(int32_t value) {
  int zeros = 0;
  while (!((uint32_t)value << zeros & 0x80000000u)) {
    ++zeros;
  }
  return zeros;
}
