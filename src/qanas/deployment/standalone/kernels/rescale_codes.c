#include <stdint.h>

#include "clamp.c"
#include "rescale.c"

/* TFLite's QUANTIZE, RELU, RELU6, LEAKY_RELU and ABS of codes: steps from zero by one factor above zero, by another one
   below. */
typedef struct {
  int32_t count;
  int32_t above_multiplier, below_multiplier;
  int8_t above_exponent, below_exponent;
  int8_t sign_below; /* -1 where numbers below zero change their sign */
  int16_t zero_point, output_zero_point, low, high;
} rescale_codes_layer;

static void rescale_codes(const rescale_codes_layer *layer, const int8_t *input, int8_t *output) {
  int32_t left;
  for (left = layer->count; left > 0; --left) {
    const int32_t steps = *input++ - layer->zero_point;
    const int32_t code = steps >= 0 ? rescale(steps, layer->above_multiplier, layer->above_exponent)
                                    : rescale(steps * layer->sign_below, layer->below_multiplier, layer->below_exponent);
    *output++ = (int8_t)clamp(code + layer->output_zero_point, layer->low, layer->high);
  }
}
