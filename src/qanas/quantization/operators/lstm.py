"""LSTM as the runtime's fused operator computes it: int8 weights and activations, int16 cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanas.layers.sequences import run_lstm
from qanas.quantization.numbers.affine import Affine, BiasCodes, QuantizedWeights
from qanas.quantization.numbers.functions import GATE_INTEGER_BITS, logistic_table, look_up, tanh_table
from qanas.quantization.numbers.requantization import FixedPoint, step_bounds
from qanas.quantization.numbers.rounding import AWAY, round_half_away
from qanas.quantization.operators.base import QuantizedOperator, Shape
from qanas.quantization.operators.recurrence import Recurrence
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor, SymmetricQuantization
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel, factor_of, fine_step_of, requantization

GATES = 4
GATE_SCALE = 2.0**-12
"""Step of a gate before its activation function: int16 with 3 integer bits, range [-8, 8)."""

UNIT_SCALE = 2.0**-15
"""Step of a gate after its activation function: int16 without integer bits, range [-1, 1)."""

INT16_LOW, INT16_HIGH = -32768.0, 32767.0
TANH = 4
"""The activation function's number in the file format."""

VERSION_FLOAT, VERSION_INT8 = 1, 3


def _saturate(values: Tensor) -> Tensor:
    """Bring codes of any shape into the range of int16, in place."""
    return values.clamp_(INT16_LOW, INT16_HIGH)


def cell_exponent(largest: float) -> int:
    """Return n of the cell's step 2^n: the smallest power of two whose int16 codes reach ``largest``.

    The kernel's tanh knows 0 to 6 integer bits, so n is between -15 and -9.
    """
    return int(np.clip(math.ceil(math.log2(max(largest, 2.0**-15))) - 15, -15, -9))


@dataclass(frozen=True)
class LSTM(Recurrence):
    """One LSTM layer over a whole sequence; shapes (time, features) to (time, units).

    Attributes:
        weight_ih: shape (4 * units, features), gates in the order i, f, g, o.
        weight_hh: shape (4 * units, units).
        bias: shape (4 * units,).
    """

    bias: Tensor

    def parameters(self) -> int:
        """Return 4 * units * (features + units + 1)."""
        return self.weight_ih.numel() + self.weight_hh.numel() + self.bias.numel()

    def macs(self, *inputs: Shape) -> int:
        """Return those of the two matrix products and the three element-wise products of the cell."""
        time = inputs[0][0]
        return time * (self.weight_ih.numel() + self.weight_hh.numel() + 3 * self.units)

    def _states(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden and cell states after every step, each of shape (batch, time, units)."""
        hidden = inputs.new_zeros(len(inputs), self.units)
        cell = hidden
        projected = inputs @ self.weight_ih.T + self.bias
        recurrent = self.weight_hh.T.contiguous()
        hiddens, cells = [], []
        for step in range(inputs.shape[1]):
            i, f, g, o = torch.addmm(projected[:, step], hidden, recurrent).chunk(GATES, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            hiddens.append(hidden)
            cells.append(cell)
        return torch.stack(hiddens, 1), torch.stack(cells, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the hidden states, shape (batch, time, units), for (batch, time, features)."""
        return run_lstm(inputs[0], self.weight_ih, self.weight_hh, self.bias)

    def observe(self, *inputs: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the cell states too, shape (batch, time, units): their range decides the cell's scale."""
        hidden, cell = self._states(inputs[0])
        return hidden, {"cell": cell}

    def quantized_weights(self, inputs: Sequence[Affine], scheme: Scheme) -> Mapping[str, QuantizedWeights]:
        """Quantize weights with a scale a gate: a gate's are a tensor of their own, of which the kernel reads one."""
        bits, kind = scheme.weight_bits, scheme.scales
        kernel = QuantizedWeights.from_float(
            self.weight_ih, bits, groups=GATES, kind=kind, bias=self.bias, source=inputs[0]
        )
        recurrent = QuantizedWeights.from_float(self.weight_hh, bits, groups=GATES, kind=kind)
        return {"weight_ih": kernel, "weight_hh": recurrent}

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize the weights, the hidden state to int8 and the cell to int16."""
        output = Affine.from_range(*ranges.output)
        low, high = ranges.internals["cell"]
        weights = self.quantized_weights(inputs, scheme)
        quantized = QuantizedLSTM(
            kernel=weights["weight_ih"].split(),
            recurrent=weights["weight_hh"].split(),
            bias=self.bias,
            input=inputs[0],
            output=output,
            cell_exponent=cell_exponent(max(abs(low), abs(high))),
        )
        return quantized, output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operator."""
        split = [weights.numpy().reshape(GATES, self.units, -1) for weights in (self.weight_ih, self.weight_hh)]
        kernel, recurrent = ([RuntimeTensor.constant(gate) for gate in gates] for gates in split)
        bias = [RuntimeTensor.constant(gate) for gate in self.bias.numpy().reshape(GATES, self.units)]
        states = [RuntimeTensor((1, self.units), "float32", variable=True) for _ in range(2)]
        _append(program, VERSION_FLOAT, inputs[0], [kernel, recurrent, bias], states, output)


def _append(
    program: Program,
    version: int,
    source: RuntimeTensor,
    gates: Sequence[Sequence[RuntimeTensor]],
    states: Sequence[RuntimeTensor],
    output: RuntimeTensor,
    intermediates: Sequence[RuntimeTensor] = (),
) -> None:
    """Append UNIDIRECTIONAL_SEQUENCE_LSTM with its 24 inputs; peepholes, projection and layer norm are left out."""
    kernel, recurrent, bias = gates
    none = [None]
    program.append(
        RuntimeOperator(
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            version,
            [source, *kernel, *recurrent, *none * 3, *bias, *none * 2, *states, *none * 4],
            [output],
            {"fusedActivationFunction": TANH, "cellClip": 0.0, "projClip": 0.0, "timeMajor": False},
            intermediates,
        )
    )


@dataclass(frozen=True)
class QuantizedLSTM(QuantizedOperator):
    """The integer LSTM (8x8 -> 16): sums of products saturate to int16 before the activation functions.

    Attributes:
        kernel: input weights by gate, order i, f, g, o, each (units, features).
        recurrent: recurrent weights by gate, each (units, units).
        bias: float, shape (4 * units,).
        input: parameters of the input's codes.
        output: parameters of the hidden state's codes.
        cell_exponent: the cell's step is 2^cell_exponent.
    """

    kernel: tuple[QuantizedWeights, ...]
    recurrent: tuple[QuantizedWeights, ...]
    bias: Tensor
    input: Affine
    output: Affine
    cell_exponent: int

    def bias_codes(self) -> list[BiasCodes]:
        """Return the int32 biases by gate, in steps of input scale x kernel scale."""
        pairs = zip(self.kernel, self.bias.chunk(GATES), strict=True)
        return [weights.quantize_bias(bias, self.input) for weights, bias in pairs]

    def _products(self, weights: Sequence[QuantizedWeights], scale: float) -> tuple[Tensor, FixedPoint]:
        """Return integer weights, shape (inputs, 4 * units), and factors from sums to gate codes, (4 * units,)."""
        matrix = torch.cat([gate.as_tensor() for gate in weights]).T.contiguous()
        # The runtime multiplies the scales in float32.
        factors = [np.float32(gate.scales[0]) * np.float32(scale) / np.float32(GATE_SCALE) for gate in weights]
        units = matrix.shape[1] // GATES
        return matrix, FixedPoint.of(np.repeat(np.array(factors, np.float64), units))

    def _to_cell(self) -> float:
        """Return the factor from a product of two unit codes to the cell's codes."""
        return UNIT_SCALE * UNIT_SCALE / 2.0**self.cell_exponent

    def _to_hidden(self) -> FixedPoint:
        """Return the factor from a product of two unit codes to the hidden state's steps."""
        return FixedPoint.of(float(np.float32(UNIT_SCALE * UNIT_SCALE / self.output.scale)))

    def forward(self, *codes: Tensor) -> Tensor:
        """Run the recurrence on codes, shape (batch, time, features) to (batch, time, units), bit by bit as the kernel.

        Sums of products are exact in float32 below 2^24: up to 500 inputs at 8 bits.
        """
        kernel, to_gates = self._products(self.kernel, self.input.scale)
        recurrent, recurrent_to_gates = self._products(self.recurrent, self.output.scale)
        bias = torch.from_numpy(np.concatenate(self.bias_codes()).astype(np.float64))
        projected = _saturate(to_gates(((codes[0] - self.input.zero_point) @ kernel).to(torch.float64).add_(bias)))
        projected = projected.to(torch.float32)
        logistic, tanh = logistic_table(), tanh_table(GATE_INTEGER_BITS)
        tanh_of_cell = tanh_table(15 + self.cell_exponent)
        to_cell, to_hidden = self._to_cell(), self._to_hidden()
        hidden = codes[0].new_zeros(len(codes[0]), recurrent.shape[0])
        cell = torch.zeros_like(hidden)
        outputs = []
        for step in range(codes[0].shape[1]):
            sums = recurrent_to_gates((hidden @ recurrent).to(torch.float64)).to(torch.float32)
            gates = _saturate(sums.add_(projected[:, step])).chunk(GATES, 1)
            i, f, o = (look_up(logistic, gates[gate]) for gate in (0, 1, 3))
            g = look_up(tanh, gates[2])
            # Products of 15 and 16 bits need float64: float32 would round them first.
            kept = round_half_away(f.to(torch.float64) * cell * UNIT_SCALE)
            written = _saturate(round_half_away(i.to(torch.float64) * g * to_cell))
            cell = _saturate(_saturate(kept).add_(written)).to(torch.float32)
            squashed = look_up(tanh_of_cell, cell)
            hidden = to_hidden(o.to(torch.float64) * squashed).to(torch.float32)
            hidden.clamp_(self.output.low - self.output.zero_point, self.output.high - self.output.zero_point)
            outputs.append(hidden)
        return torch.stack(outputs, 1).add_(self.output.zero_point)

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Round in the same places, in one compiled pass a step behind the matrix product."""
        from qanas.quantization.simulation.compiled import step_lstm

        kernel, to_gates = self._products(self.kernel, inputs[0].scale)
        recurrent, recurrent_to_gates = self._products(self.recurrent, output.scale)
        biases: NDArray[np.int32] = np.concatenate(self.bias_codes()).astype(np.int32)
        project = requantization(to_gates, biases, (INT16_LOW, INT16_HIGH))
        feed_back = requantization(recurrent_to_gates, 0, (-math.inf, math.inf))
        tables = (logistic_table(), tanh_table(GATE_INTEGER_BITS), tanh_table(15 + self.cell_exponent))
        logistic, tanh, tanh_of_cell = (table.numpy().astype(np.int16) for table in tables)
        constants = self._step_constants(output)

        def run(steps: Tensor) -> Tensor:
            projected = project(steps @ kernel).numpy()
            hidden = steps.new_zeros(len(steps), recurrent.shape[0])
            cell, states = torch.zeros_like(hidden).numpy(), []
            for n in range(steps.shape[1]):
                gates = feed_back(hidden @ recurrent).numpy()
                hidden = torch.empty_like(hidden)
                step_lstm(gates, projected[:, n], logistic, tanh, tanh_of_cell, constants, cell, hidden.numpy())
                states.append(hidden)
            return torch.stack(states, 1)

        return run

    def _step_constants(self, output: Affine) -> NDArray[np.float64]:
        """Return the numbers that `qanas.quantization.simulation.compiled.step_lstm` takes."""
        to_hidden = self._to_hidden()
        factors = [AWAY * UNIT_SCALE, AWAY * self._to_cell()]
        factors += [float(factor_of(to_hidden)), float(fine_step_of(to_hidden))]
        return np.array([*factors, *step_bounds(output, "none")])

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operator; states and the hidden intermediate share the output's parameters."""
        units = self.recurrent[0].codes.shape[0]
        cell = SymmetricQuantization.with_scales(np.array([2.0**self.cell_exponent], np.float32))
        gate = SymmetricQuantization.with_scales(np.array([GATE_SCALE], np.float32))
        states = [
            RuntimeTensor((1, units), "int8", output.quantization, variable=True),
            RuntimeTensor((1, units), "int16", cell, variable=True),
        ]
        before_activation = RuntimeTensor((0,), "int16", gate)
        _append(
            program,
            VERSION_INT8,
            inputs[0],
            [
                [RuntimeTensor.weights(gate) for gate in self.kernel],
                [RuntimeTensor.weights(gate) for gate in self.recurrent],
                [RuntimeTensor.constant(bias) for bias in self.bias_codes()],
            ],
            states,
            output,
            [before_activation] * GATES + [RuntimeTensor((0,), "int8", output.quantization)],
        )
