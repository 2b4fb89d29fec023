#include <stdint.h>

/* sum * (upper * 2^26 + lower) / 2^(26 + shift), rounded once, ties away from zero. The factor has all 53 bits of a
   double: so TFLite's reference kernel computes. That no sum that can occur is rounded otherwise there, where the
   product has 53 bits as well, was checked for every factor when this was made. */
static int32_t scale_once(int32_t sum, const int32_t *factor, int shift) {
  const uint32_t size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
  const uint64_t fine = (uint64_t)size * (uint32_t)factor[0] + ((uint64_t)size * (uint32_t)factor[1] >> 26);
  const int32_t steps = (int32_t)((fine + ((uint64_t)1 << (shift - 1))) >> shift);
  return sum < 0 ? -steps : steps;
}
