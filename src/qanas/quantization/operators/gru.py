"""GRU, which no runtime has as one operator: unrolled, a dozen operators a step, over weights that are stored once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from qanas.quantization.numbers.affine import Affine, QuantizedWeights
from qanas.quantization.operators.arithmetic import Add, Multiply, Subtract
from qanas.quantization.operators.base import Operator, QuantizedOperator, Shape
from qanas.quantization.operators.dense import Dense, QuantizedDense, append_dense
from qanas.quantization.operators.functions import Logistic, Tanh
from qanas.quantization.operators.recurrence import Recurrence
from qanas.quantization.program import Program, RuntimeOperator, RuntimeTensor, TensorQuantization
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme

Steps = Mapping[str, Tensor]
"""The values inside, by what they are called in `GRU`, of shape (batch, time, ...)."""

PACK_VERSIONS = {"float32": 1, "int8": 1}


@dataclass(frozen=True)
class GRU(Recurrence):
    """One GRU layer over a whole sequence from a zero state; shapes (time, features) to (time, units).

    ``r, z = sigmoid(gates)``, ``n = tanh(new)``, ``h = n + z * (h - n)`` with ``gates = from_input + from_state`` and
    ``new = new_from_input + r * new_from_state``.

    Attributes:
        weight_ih: shape (3 * units, features), in the order r, z, n.
        weight_hh: shape (3 * units, units).
        bias_ih: shape (3 * units,).
        bias_hh: shape (3 * units,).
    """

    bias_ih: Tensor
    bias_hh: Tensor

    def parameters(self) -> int:
        """Return 3 * units * (features + units + 2)."""
        return sum(tensor.numel() for tensor in (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh))

    def macs(self, *inputs: Shape) -> int:
        """Return those of the two matrix products and the two element-wise products."""
        return inputs[0][0] * (self.weight_ih.numel() + self.weight_hh.numel() + 2 * self.units)

    def _layers(self) -> Mapping[str, Dense]:
        """Return the four matrix products; biases of the gates are added up."""
        gates, (r, u) = 2 * self.units, (self.bias_ih, self.bias_hh)
        return {
            "from_input": Dense(self.weight_ih[:gates], r[:gates] + u[:gates]),
            "new_from_input": Dense(self.weight_ih[gates:], r[gates:]),
            "from_state": Dense(self.weight_hh[:gates], torch.zeros_like(u[:gates])),
            "new_from_state": Dense(self.weight_hh[gates:], u[gates:]),
        }

    def observe(self, *inputs: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute in float32, and return all values inside."""
        layers = self._layers()
        hidden = inputs[0].new_zeros(len(inputs[0]), self.units)
        inside: dict[str, list[Tensor]] = {}
        from_input, new_from_input = (layers[name].forward(inputs[0]) for name in ("from_input", "new_from_input"))
        for step in range(inputs[0].shape[1]):
            from_state, new_from_state = (layers[name].forward(hidden) for name in ("from_state", "new_from_state"))
            gates = from_input[:, step] + from_state
            reset, update = torch.sigmoid(gates).chunk(2, 1)
            kept = reset * new_from_state
            new = new_from_input[:, step] + kept
            apart = hidden - torch.tanh(new)
            moved = update * apart
            hidden = torch.tanh(new) + moved
            values = {
                "from_state": from_state,
                "new_from_state": new_from_state,
                "gates": gates,
                "kept": kept,
                "new": new,
                "apart": apart,
                "moved": moved,
                "hidden": hidden,
            }
            for name, value in values.items():
                inside.setdefault(name, []).append(value)
        stacked = {name: torch.stack(steps, 1) for name, steps in inside.items()}
        output = stacked.pop("hidden")
        return output, {"from_input": from_input, "new_from_input": new_from_input, **stacked}

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the states, shape (batch, time, units), for (batch, time, features)."""
        return self.observe(*inputs)[0]

    def quantized_weights(self, inputs: Sequence[Affine], scheme: Scheme) -> Mapping[str, QuantizedWeights]:
        """Quantize weights with a scale for both gates and one for what is new: matrix products of their own."""
        del inputs
        gates = 2 * self.units
        return {
            name: _joined(
                [
                    QuantizedWeights.from_float(part, scheme.weight_bits, kind=scheme.scales)
                    for part in (weight[:gates], weight[gates:])
                ]
            )
            for name, weight in (("weight_ih", self.weight_ih), ("weight_hh", self.weight_hh))
        }

    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Quantize every operator of a step; states of all steps have the output's parameters."""
        output = Affine.from_range(*ranges.output)
        inside = ranges.internals
        scheme = replace(scheme, weight_scales="tensor", container="int8", layers={})
        sources = {"from_input": inputs[0], "new_from_input": inputs[0], "from_state": output, "new_from_state": output}
        parts: dict[str, tuple[QuantizedOperator, Affine]] = {}

        def add(name: str, operator: Operator, *of: Affine) -> Affine:
            reach = output.span if name == "hidden" else inside.get(name, (0.0, 1.0))
            parts[name] = operator.quantize(of, Ranges(reach, {}), scheme)
            return parts[name][1]

        for name, layer in self._layers().items():
            add(name, layer, sources[name])
        gates = add("gates", Add(), parts["from_input"][1], parts["from_state"][1])
        shares = add("shares", Logistic(), gates)
        kept = add("kept", Multiply(), shares, parts["new_from_state"][1])
        new = add("candidate", Tanh(), add("new", Add(), parts["new_from_input"][1], kept))
        moved = add("moved", Multiply(), shares, add("apart", Subtract(), output, new))
        add("hidden", Add(), new, moved)
        operators = {name: operator for name, (operator, _) in parts.items()}
        affines = {name: affine for name, (_, affine) in parts.items()}
        return QuantizedGRU(operators, {**affines, "hidden": output}, self.units), output

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the float32 operators."""
        layers = {name: (*_constants(layer), layer) for name, layer in self._layers().items()}
        operators = {
            "gates": Add(),
            "shares": Logistic(),
            "kept": Multiply(),
            "new": Add(),
            "candidate": Tanh(),
            "apart": Subtract(),
            "moved": Multiply(),
            "hidden": Add(),
        }
        zero = RuntimeTensor.constant(np.zeros((1, self.units), np.float32))
        _Unrolled(program, layers, operators, {}, self.units).run(inputs[0], zero, output)


def _joined(parts: Sequence[QuantizedWeights]) -> QuantizedWeights:
    """Return weights with a scale a part, repeated for each of its rows."""
    scales = np.concatenate([np.repeat(part.scales, len(part.codes)) for part in parts])
    return QuantizedWeights(np.concatenate([part.codes for part in parts]), scales, parts[0].bits)


def _constants(layer: Dense | QuantizedDense) -> tuple[RuntimeTensor, RuntimeTensor]:
    """Return weights and biases to be stored."""
    if isinstance(layer, QuantizedDense):
        return layer.constants()
    weight, bias = (np.ascontiguousarray(tensor.numpy()) for tensor in (layer.weight, layer.bias))
    return RuntimeTensor.constant(weight), RuntimeTensor.constant(bias)


@dataclass(frozen=True)
class QuantizedGRU(QuantizedOperator):
    """The quantized operators of a step.

    Attributes:
        operators: by what they compute, see `GRU`.
        affines: parameters of their results; those of ``hidden`` are the output's.
        units: size of the state.
    """

    operators: Mapping[str, QuantizedOperator]
    affines: Mapping[str, Affine]
    units: int

    def forward(self, *codes: Tensor) -> Tensor:
        """Run the recurrence on codes, shape (batch, time, features) to (batch, time, units), operator by operator."""

        def run(name: str, *of: Tensor) -> Tensor:
            return self.operators[name].forward(*of)

        from_input, new_from_input = run("from_input", codes[0]), run("new_from_input", codes[0])
        hidden = codes[0].new_full((len(codes[0]), self.units), float(self.affines["hidden"].zero_point))
        states = []
        for step in range(codes[0].shape[1]):
            gates = run("gates", from_input[:, step], run("from_state", hidden))
            reset, update = run("shares", gates).chunk(2, 1)
            kept = run("kept", reset, run("new_from_state", hidden))
            candidate = run("candidate", run("new", new_from_input[:, step], kept))
            moved = run("moved", update, run("apart", hidden, candidate))
            hidden = run("hidden", candidate, moved)
            states.append(hidden)
        return torch.stack(states, 1)

    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append the integer operators of every step; weights, biases and parameters are stored once."""
        layers = {
            name: (*operator.constants(), operator)
            for name, operator in self.operators.items()
            if isinstance(operator, QuantizedDense)
        }
        rest = {name: operator for name, operator in self.operators.items() if name not in layers}
        parameters = {name: TensorQuantization.of(affine) for name, affine in self.affines.items()}
        if output.quantization is not None:
            parameters["hidden"] = output.quantization
        state = self.affines["hidden"]
        codes = np.full((1, self.units), state.zero_point, np.int8)
        zero = RuntimeTensor((1, self.units), "int8", parameters["hidden"], codes, 8)
        _Unrolled(program, layers, rest, parameters, self.units).run(inputs[0], zero, output)


Layer = tuple[RuntimeTensor, RuntimeTensor, Dense | QuantizedDense]
"""Stored weights, stored biases, and what computes with them."""


@dataclass
class _Unrolled:
    """Appends the operators of all steps.

    Attributes:
        program: to which.
        layers: the matrix products.
        operators: the others.
        parameters: of the results; none in float32.
        units: size of the state.
    """

    program: Program
    layers: Mapping[str, Layer]
    operators: Mapping[str, Operator | QuantizedOperator]
    parameters: Mapping[str, TensorQuantization]
    units: int

    def run(self, source: RuntimeTensor, zero: RuntimeTensor, output: RuntimeTensor) -> None:
        """Append all steps over a source of shape (1, time, features)."""
        time, hidden, states = source.shape[1], zero, []
        self.dtype = source.dtype
        from_input, new_from_input = (self._by_step(name, source, time) for name in ("from_input", "new_from_input"))
        for step in range(time):
            gates = self._append("gates", from_input[step], self._append("from_state", hidden))
            reset, update = self._halves(self._append("shares", gates))
            kept = self._append("kept", reset, self._append("new_from_state", hidden))
            candidate = self._append("candidate", self._append("new", new_from_input[step], kept))
            moved = self._append("moved", update, self._append("apart", hidden, candidate))
            hidden = self._append("hidden", candidate, moved)
            states.append(hidden)
        options = {"valuesCount": time, "axis": 1}
        self.program.append(RuntimeOperator("PACK", PACK_VERSIONS[self.dtype], states, [output], options))

    def _tensor(self, name: str, shape: Shape) -> RuntimeTensor:
        return RuntimeTensor(shape, self.dtype, self.parameters.get(name))

    def _append(self, name: str, *sources: RuntimeTensor) -> RuntimeTensor:
        """Append an operator of a step and return its result."""
        if name in self.layers:
            weights, bias, layer = self.layers[name]
            result = self._tensor(name, (*sources[0].shape[:-1], weights.shape[0]))
            append_dense(self.program, layer, [*sources, weights, bias], result)
            return result
        result = self._tensor(name, sources[0].shape)
        self.operators[name].lower(self.program, sources, result)
        return result

    def _by_step(self, name: str, source: RuntimeTensor, time: int) -> list[RuntimeTensor]:
        """Append a matrix product over all steps at once, and take its result apart."""
        whole = self._append(name, source)
        steps = [self._tensor(name, (1, whole.shape[2])) for _ in range(time)]
        self.program.append(
            RuntimeOperator("UNPACK", 2 if self.dtype == "int8" else 1, [whole], steps, {"num": time, "axis": 1})
        )
        return steps

    def _halves(self, value: RuntimeTensor) -> list[RuntimeTensor]:
        """Take both gates apart."""
        parts = [RuntimeTensor((1, self.units), self.dtype, value.quantization) for _ in range(2)]
        axis = self.program.indices([1])
        self.program.append(
            RuntimeOperator("SPLIT", 2 if self.dtype == "int8" else 1, [axis, value], parts, {"numSplits": 2})
        )
        return parts
