#include <stdint.h>

#include "divide_by_power.c"

/* logistic and tanh of 16 bits as TFLite's integer LSTM has them (gemmlowp's fixedpoint/fixedpoint.h: series and
   Newton's method, in words of 16 bits). Numbers in Qm have m integer bits and 15 - m behind the point. */

/* The rounded product of two numbers in Q0, or of one in Q0 and one in Qm; ties up. */
static int32_t multiply_words(int32_t one, int32_t other) { return (one * other + (1 << 14)) >> 15; }

/* exp(value) in Q0 for a value of 0 or less with some integer bits: above -1/4 by a series, the rest bit by bit. */
static int32_t exp_of_negative(int32_t value, int integer_bits) {
  /* exp(-2^n) in Q0, n = -2, ..., 4 */
  static const int16_t exponentials[7] = {25520, 19875, 12055, 4435, 600, 11, 0};
  const int fraction_bits = 15 - integer_bits;
  const int32_t quarter = 1 << (fraction_bits - 2);
  const int32_t near = (value & (quarter - 1)) - quarter;
  const int32_t rest = near - value;
  /* around -1/8: x = value + 1/8 of Q0, exp(-1/8) (1 + x + x^2/2 + x^3/6 + x^4/24) */
  const int32_t x = near * (1 << integer_bits) + (1 << 12);
  const int32_t x2 = multiply_words(x, x), x3 = multiply_words(x2, x), x4 = multiply_words(x2, x2);
  const int32_t tail = divide_by_power(multiply_words(divide_by_power(x4, 2) + x3, 10923) + x2, 1);
  int32_t result = 28918 + multiply_words(x + tail, 28918);
  int power;
  if (value == 0) {
    return INT16_MAX;
  }
  if (integer_bits > 5 && value < -(1 << (fraction_bits + 5))) {
    return 0;
  }
  for (power = -2; power < integer_bits && power < 5; ++power) {
    if ((rest >> (fraction_bits + power)) & 1) {
      result = multiply_words(result, exponentials[power + 2]);
    }
  }
  return result;
}

/* 2 / (1 + value) in Q2 for a value from 0 to 1 in Q0: three steps of Newton's method from 48/17 - 32/17 x. */
static int32_t two_over_one_plus(int32_t value) {
  const int32_t half = (value + INT16_MAX + 1) >> 1;
  int32_t x = 23130 + multiply_words(half, -15420);
  int step;
  for (step = 0; step < 3; ++step) {
    x += multiply_words(x, (1 << 13) - multiply_words(half, x)) * 4;
  }
  return x;
}

/* Of a code in Q3, in Q0. */
static int32_t logistic_of_gate(int32_t code) {
  int32_t positive;
  if (code == 0) {
    return 1 << 14;
  }
  positive = two_over_one_plus(exp_of_negative(code < 0 ? code : -code, 3)) * 2;
  positive = positive > INT16_MAX ? INT16_MAX : positive;
  return code > 0 ? positive : INT16_MAX - positive;
}

/* Of a code with 0 to 6 integer bits, in Q0: 2 / (1 + exp(-2 x)) - 1, where one more integer bit doubles x. */
static int32_t tanh_of_gate(int32_t code, int integer_bits) {
  const int32_t result =
      (two_over_one_plus(exp_of_negative(code < 0 ? code : -code, integer_bits + 1)) - (1 << 13)) * 4;
  const int32_t magnitude = result > INT16_MAX ? INT16_MAX : result;
  return code < 0 ? -magnitude : code > 0 ? magnitude : 0;
}
