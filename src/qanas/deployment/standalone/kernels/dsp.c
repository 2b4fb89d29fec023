#include <stdint.h>
#include <string.h>

/* Products of bytes, two in an instruction, where the core has Arm's DSP extension (Cortex-M4, M7, M33, M55), unless
   QANAS_NO_DSP is defined. */
#if !defined(QANAS_DSP) && !defined(QANAS_NO_DSP) && defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
#define QANAS_DSP 1
/* Bytes 0 and 2 of a word, and bytes 1 and 3, as two halves with their signs. */
static inline uint32_t even_bytes(uint32_t word) {
  uint32_t halves;
  __asm__("sxtb16 %0, %1" : "=r"(halves) : "r"(word));
  return halves;
}
static inline uint32_t odd_bytes(uint32_t word) {
  uint32_t halves;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(word));
  return halves;
}
/* The same, each added to a half of another word. */
static inline uint32_t even_bytes_and(uint32_t halves, uint32_t word) {
  uint32_t sums;
  __asm__("sxtab16 %0, %1, %2" : "=r"(sums) : "r"(halves), "r"(word));
  return sums;
}
static inline uint32_t odd_bytes_and(uint32_t halves, uint32_t word) {
  uint32_t sums;
  __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(sums) : "r"(halves), "r"(word));
  return sums;
}
/* sum + the product of the lower halves + that of the upper halves. */
static inline int32_t add_products(uint32_t one, uint32_t other, int32_t sum) {
  int32_t result;
  __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(one), "r"(other), "r"(sum));
  return result;
}
#endif

#ifdef QANAS_DSP
static inline uint32_t four_bytes(const int8_t *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}
#endif
