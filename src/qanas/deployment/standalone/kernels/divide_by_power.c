#include <stdint.h>

/* value / 2^exponent for an exponent from 0 to 31, rounded, ties away from zero, as gemmlowp's RoundingDivideByPOT
   (fixedpoint/fixedpoint.h). Here and below, >> of a negative number is taken to keep its sign, as all compilers do. */
static int32_t divide_by_power(int32_t value, int exponent) {
  const int32_t mask = (int32_t)((1u << exponent) - 1u);
  const int32_t rest = value & mask;
  const int32_t most = (mask >> 1) + (value < 0 ? 1 : 0);
  return (value >> exponent) + (rest > most ? 1 : 0);
}
