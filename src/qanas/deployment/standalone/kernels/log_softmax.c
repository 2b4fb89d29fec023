#include <stdint.h>

#include "clamp.c"
#include "differences.c"
#include "rescale.c"

/* TFLite's LOG_SOFTMAX of codes (reference/log_softmax.h). */
typedef struct {
  differences of;
  int32_t rows;
  int32_t multiplier, exponent; /* from Q5.26 back to differences of codes */
} log_softmax_layer;

static int32_t times_power(int32_t value, int power) {
  const int64_t shifted = (int64_t)value * ((int64_t)1 << (power > 0 ? power : 0));
  const int32_t cut = shifted > INT32_MAX ? INT32_MAX : shifted < INT32_MIN ? INT32_MIN : (int32_t)shifted;
  return power < 0 ? divide_by_power(value, -power) : cut;
}

/* log(sum) in Q5.26 of a number of 1 and more in Q12.19: a power of two, and of the rest, between sqrt(1/2) and sqrt(2)
   of it, a rational function. */
static int32_t logarithm(int32_t sum) {
  const int zeros = leading_zeros(sum), headroom = leading_zeros(multiply_long(sum, 1518500250)) - 1;
  const int32_t first = times_power(multiply_long(times_power(sum, zeros - 1), 1518500250), 1);
  const int32_t second = times_power(sum, headroom);
  const int32_t first_power = times_power(12 - zeros, 25) + (1 << 23);
  const int32_t second_power = times_power(12 - headroom, 25) - (1 << 23);
  const int32_t rest = first < second ? first : second;
  const int32_t power = first_power > second_power ? first_power : second_power;
  const int32_t half_sum = (int32_t)(((int64_t)rest + 1805811301 + 1) >> 1);
  const int32_t q = 2 * (rest - 1805811301), square = multiply_long(q, q);
  const int32_t numerator = multiply_long(q, rest) + multiply_long(multiply_long(q, square), 117049297);
  const int32_t denominator = multiply_long(half_sum, 1057819769 + q + multiply_long(square, 127690142)) +
                              multiply_long(q, 638450708);
  const int32_t inverse = one_over_one_plus_long(denominator);
  return times_power(multiply_long(power, 1488522236) + multiply_long(divide_by_power(numerator, 6), inverse), 1);
}

static void log_softmax(const log_softmax_layer *layer, const int8_t *input, int8_t *output) {
  const int32_t classes = layer->of.classes;
  int32_t row, at;
  for (row = 0; row < layer->rows; ++row, input += classes, output += classes) {
    const int32_t most = largest_code(input, classes);
    const int32_t of_sum = logarithm(sum_of_exponentials(&layer->of, input, most));
    int32_t lowest = rescale(of_sum + INT32_MIN, layer->multiplier, layer->exponent);
    lowest = lowest < -layer->of.reach - 1 ? -layer->of.reach - 1 : lowest;
    for (at = 0; at < classes; ++at) {
      const int32_t below = most - input[at];
      output[at] = INT8_MIN;
      if (-below > lowest) {
        const int32_t steps = divide_by_power(fine_difference(&layer->of, below) - of_sum, 22);
        output[at] = (int8_t)clamp(steps + INT8_MAX, INT8_MIN, INT8_MAX);
      }
    }
  }
}
