#include <stddef.h>
#include <stdint.h>

#include "clamp.c"
#include "dot.c"
#include "gate_functions.c"
#include "rescale.c"

/* TFLite's integer UNIDIRECTIONAL_SEQUENCE_LSTM, 8x8 -> 16 (kernels/lstm_eval.cc); gates in the order i, f, g, o. */
typedef struct {
  int16_t steps, features, units;
  int16_t cell_bits;                /* integer bits of the cell's codes */
  int16_t zero_point;               /* of the output */
  int8_t exponents[8];              /* from sums to the gates' codes, of the input by gate, then of the state */
  int32_t multipliers[8];
  int8_t output_exponent;           /* from the product of output gate and cell to the output's codes */
  int32_t output_multiplier;
  const int8_t *kernel, *recurrent; /* by gate: units x features, units x units */
  const int32_t *biases;            /* 4 x units of the input, 4 x units of the state; zero points are taken off */
} lstm_layer;

/* A window, from a state of 0: `steps` rows of features to as many rows of units; the cell is worked in. */
static void lstm(const lstm_layer *layer, const int8_t *input, int16_t *cell, int8_t *output) {
  const int32_t features = layer->features, units = layer->units;
  const int8_t *previous = NULL;
  int32_t step, unit;
  int gate;
  for (unit = 0; unit < units; ++unit) {
    cell[unit] = 0;
  }
  for (step = 0; step < layer->steps; ++step) {
    for (unit = 0; unit < units; ++unit) {
      int32_t gates[4], kept, written, squashed;
      for (gate = 0; gate < 4; ++gate) {
        const int32_t row = gate * units + unit;
        int32_t sum = layer->biases[row] + dot(input, layer->kernel + row * features, features);
        sum = clamp(rescale(sum, layer->multipliers[gate], layer->exponents[gate]), INT16_MIN, INT16_MAX);
        if (previous != NULL) {
          const int32_t fed = layer->biases[4 * units + row] + dot(previous, layer->recurrent + row * units, units);
          sum += rescale(fed, layer->multipliers[4 + gate], layer->exponents[4 + gate]);
        }
        gates[gate] = clamp(sum, INT16_MIN, INT16_MAX);
      }
      kept = divide_by_power(logistic_of_gate(gates[1]) * cell[unit], 15);
      written = divide_by_power(logistic_of_gate(gates[0]) * tanh_of_gate(gates[2], 3), 15 + layer->cell_bits);
      cell[unit] = (int16_t)clamp(kept + written, INT16_MIN, INT16_MAX);
      squashed = logistic_of_gate(gates[3]) * tanh_of_gate(cell[unit], layer->cell_bits);
      squashed = rescale(squashed, layer->output_multiplier, layer->output_exponent) + layer->zero_point;
      output[unit] = (int8_t)clamp(squashed, INT8_MIN, INT8_MAX);
    }
    previous = output;
    input += features;
    output += units;
  }
}
