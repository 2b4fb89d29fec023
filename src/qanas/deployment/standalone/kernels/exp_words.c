#include <stdint.h>

#include "divide_by_power.c"

/* Exponential and reciprocal in words of 32 bits, as gemmlowp has them (fixedpoint/fixedpoint.h). */

/* The rounded product of two numbers in Q0, or of one in Q0 and one in Qm; ties up. */
static int32_t multiply_long(int32_t one, int32_t other) {
  return (int32_t)(((int64_t)one * other + (1 << 30)) >> 31);
}

/* exp(value) in Q0 for a value of 0 or less in Q5.26: above -1/4 by a series, the rest bit by bit. */
static int32_t exp_of_negative_long(int32_t value) {
  /* exp(-2^n) in Q0, n = -2, ..., 4 */
  static const int32_t exponentials[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
  const int32_t near = (value & ((1 << 24) - 1)) - (1 << 24), rest = near - value;
  const int32_t x = near * (1 << 5) + (1 << 28);
  const int32_t x2 = multiply_long(x, x), x3 = multiply_long(x2, x), x4 = multiply_long(x2, x2);
  const int32_t tail = divide_by_power(multiply_long(divide_by_power(x4, 2) + x3, 715827883) + x2, 1);
  int32_t result = 1895147668 + multiply_long(x + tail, 1895147668);
  int power;
  if (value == 0) {
    return INT32_MAX;
  }
  for (power = -2; power < 5; ++power) {
    if ((rest >> (26 + power)) & 1) {
      result = multiply_long(result, exponentials[power + 2]);
    }
  }
  return result;
}

/* 1 / (1 + value) in Q0 for a value from 0 to 1 in Q0: three steps of Newton's method from 48/17 - 32/17 x. */
static int32_t one_over_one_plus_long(int32_t value) {
  const int32_t half = (int32_t)(((int64_t)value + INT32_MAX + 1) >> 1);
  int32_t x = 1515870810 + multiply_long(half, -1010580540);
  int step;
  for (step = 0; step < 3; ++step) {
    x += multiply_long(x, (1 << 29) - multiply_long(half, x)) * 4;
  }
  return x > INT32_MAX / 2 ? INT32_MAX : x * 2;
}
