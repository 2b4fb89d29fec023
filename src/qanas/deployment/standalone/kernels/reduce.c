#include <stdint.h>

#include "clamp.c"
#include "rescale.c"

/* TFLite's MEAN of codes (reference/reduce.h, QuantizedMeanOrSum), REDUCE_MAX and REDUCE_MIN: three axes that stay, and
   three that are gone over, each with its size and how far the next number is. */
typedef struct {
  int32_t kept[3], kept_steps[3], over[3], over_steps[3];
  int32_t multiplier;    /* from sums to the mean's codes */
  int16_t exponent;
  int16_t kind;          /* 0: mean, 1: the largest, -1: the smallest */
  int32_t offset;        /* of the sum: zero points are taken off */
  int16_t output_zero_point;
} reduce_layer;

static int8_t reduce_one(const reduce_layer *layer, const int8_t *input) {
  int32_t one, two, three, sum = layer->offset, extreme = *input;
  for (one = 0; one < layer->over[0]; ++one) {
    for (two = 0; two < layer->over[1]; ++two) {
      const int8_t *code = input + one * layer->over_steps[0] + two * layer->over_steps[1];
      for (three = 0; three < layer->over[2]; ++three, code += layer->over_steps[2]) {
        sum += *code;
        if (layer->kind * *code > layer->kind * extreme) {
          extreme = *code;
        }
      }
    }
  }
  if (layer->kind != 0) {
    return (int8_t)extreme;
  }
  return (int8_t)clamp(rescale(sum, layer->multiplier, layer->exponent) + layer->output_zero_point, INT8_MIN, INT8_MAX);
}

static void reduce(const reduce_layer *layer, const int8_t *input, int8_t *output) {
  int32_t one, two, three;
  for (one = 0; one < layer->kept[0]; ++one) {
    for (two = 0; two < layer->kept[1]; ++two) {
      for (three = 0; three < layer->kept[2]; ++three) {
        const int32_t start =
            one * layer->kept_steps[0] + two * layer->kept_steps[1] + three * layer->kept_steps[2];
        *output++ = reduce_one(layer, input + start);
      }
    }
  }
}
