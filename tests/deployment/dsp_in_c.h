/* What dsp.c has of Arm's instructions, in C: so their loops run on any machine (-DQANAS_DSP -include dsp_in_c.h). */
#include <stdint.h>
#include <string.h>

static inline uint32_t halves(int upper, int lower) { return (uint32_t)upper << 16 | (uint16_t)lower; }
static inline uint32_t even_bytes(uint32_t word) { return halves((int8_t)(word >> 16), (int8_t)word); }
static inline uint32_t odd_bytes(uint32_t word) { return halves((int8_t)(word >> 24), (int8_t)(word >> 8)); }
static inline int32_t add_products(uint32_t one, uint32_t other, int32_t sum) {
  return sum + (int16_t)one * (int16_t)other + (int16_t)(one >> 16) * (int16_t)(other >> 16);
}
static inline uint32_t even_bytes_and(uint32_t one, uint32_t word) {
  return halves((int16_t)(one >> 16) + (int8_t)(word >> 16), (int16_t)one + (int8_t)word);
}
static inline uint32_t odd_bytes_and(uint32_t one, uint32_t word) { return even_bytes_and(one, word >> 8); }
