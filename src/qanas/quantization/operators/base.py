"""What an operator of the graph is. A new operator is a class here and a translator in `tracing`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import ClassVar, Literal, Self

from torch import Tensor

from qanas.quantization.numbers.affine import ACTIVATION_BITS, ActivationBits, Affine, QuantizedWeights
from qanas.quantization.numbers.requantization import Activation
from qanas.quantization.program import Program, RuntimeTensor
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.quantization.simulation.fast import FastKernel

Shape = tuple[int, ...]
"""The shape of one sample, without the batch."""

ACTIVATION_CODES: Mapping[Activation, int] = {"none": 0, "relu": 1, "relu6": 3}
"""Fused activations and their number in the file format."""


class QuantizedOperator(ABC):
    """An operator with integer weights, between inputs and an output of known scale."""

    @abstractmethod
    def forward(self, *codes: Tensor) -> Tensor:
        """Return the output's codes; codes are float32 tensors of integers, shape (batch, *shape)."""

    @abstractmethod
    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append what the runtime executes for this operator."""

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Return the operator in fast arithmetic, all constants made; `forward` unless the operator has a faster way.

        Args:
            inputs: parameters of the inputs' codes.
            output: parameters of the output's codes.
        """

        def kernel(*steps: Tensor) -> Tensor:
            codes = (part + affine.zero_point for part, affine in zip(steps, inputs, strict=True))
            return self.forward(*codes) - output.zero_point

        return kernel


class QuantizedMove(QuantizedOperator):
    """An operator that moves numbers without a look at their values: codes and steps alike."""

    def fast_kernel(self, inputs: Sequence[Affine], output: Affine) -> FastKernel:
        """Move steps."""
        del inputs, output
        return self.forward


Origin = Literal["range", "input", "kernel"]


class Operator(ABC):
    """One node's computation in floating point, with its weights."""

    parameters_from: ClassVar[Origin] = "range"
    """Where scale and zero point of the output come from: its range, the input's, or what the kernel demands."""

    activation_bits: ClassVar[tuple[ActivationBits, ...]] = ACTIVATION_BITS
    """Bits of the codes between which there is a kernel."""

    @abstractmethod
    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of one output sample.

        Raises:
            ValueError: shapes that don't fit.
        """

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute in float32 on (batch, *shape)."""

    @abstractmethod
    def quantize(self, inputs: Sequence[Affine], ranges: Ranges, scheme: Scheme) -> tuple[QuantizedOperator, Affine]:
        """Return the quantized operator and its output's parameters.

        Args:
            inputs: parameters of the inputs' codes.
            ranges: of the node; the output's is the one that the scheme's codes cover, so that
                ``Affine.from_range(*ranges.output, bits=scheme.activation_bits)`` is what the scheme asks for.
            scheme: what holds for this node.

        Raises:
            UnsupportedSchemeError: the kernel doesn't have it.
        """

    @abstractmethod
    def lower(self, program: Program, inputs: Sequence[RuntimeTensor], output: RuntimeTensor) -> None:
        """Append what the runtime executes for this operator in float32."""

    def observe(self, *inputs: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute as `forward` does; return with it the values inside the operator whose ranges matter."""
        return self.forward(*inputs), {}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return weights and biases by the name of their field."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def quantized_weights(self, inputs: Sequence[Affine], scheme: Scheme) -> Mapping[str, QuantizedWeights]:
        """Return the integer weights by the name of the field that holds the real ones; biases are none of them.

        The one statement of how an operator's weights are quantized: `quantize` ships these, quantization-aware
        training computes with their real values.

        Args:
            inputs: parameters of the inputs' codes.
            scheme: what holds for this node.

        Raises:
            NotImplementedError: an operator with weights that doesn't say it.
        """
        del inputs, scheme
        unsaid = [name for name, value in self.tensors().items() if value.ndim > 1]
        if unsaid:
            raise NotImplementedError(f"{type(self).__name__} doesn't say how {', '.join(unsaid)} is quantized")
        return {}

    def products(self, weight: Tensor, inputs: Tensor) -> Tensor | None:
        """Return sums of products with other weights of the same shape, without bias and activation.

        Shape (batch, *shape) to (batch, *output shape); None where an operator has no such sums with a bias behind.
        """
        del weight, inputs
        return None

    def parameters(self) -> int:
        """Return the number of weights and biases."""
        return 0

    def macs(self, *inputs: Shape) -> int:
        """Return the multiply-accumulates of one sample; element-wise work counts as none.

        Raises:
            ValueError: an operator with weights that doesn't say it: never a cost of zero.
        """
        del inputs
        unsaid = [name for name, value in self.tensors().items() if value.ndim > 1]
        if unsaid:
            raise ValueError(f"{type(self).__name__} doesn't say how many multiply-accumulates {', '.join(unsaid)} are")
        return 0

    def with_activation(self, activation: Activation) -> Self | None:
        """Return the operator with a fused activation, or None where it can't have one."""
        del activation
        return None

    def with_scaling(self, scale: Tensor, offset: Tensor) -> Self | None:
        """Return the operator for ``scale * y + offset``, both of shape (channels,), or None where it can't."""
        del scale, offset
        return None
