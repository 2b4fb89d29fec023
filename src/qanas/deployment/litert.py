"""Runs .tflite files in LiteRT, one sample at a time, as a device would."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from qanas.quantization.graph import Border
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.numbers.rounding import round_half_away_array

Codes = NDArray[np.int8] | NDArray[np.int16]

_CODE_TYPES: Mapping[int, type[np.int8 | np.int16]] = {8: np.int8, 16: np.int16}

Kernels = Literal["reference", "optimized"]

_RESOLVERS = {
    "reference": OpResolverType.BUILTIN_REF,
    # Without the XNNPACK delegate, whose results and latency are those of yet another set of kernels.
    "optimized": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


class LiteRTModel:
    """A .tflite file loaded in LiteRT.

    Args:
        content: the file's bytes.
        kernels: ``reference`` (bit-exact with microcontrollers' on convolutional networks) or ``optimized``.
        border: how the file stores what the torch network takes and gives.

    Attributes:
        border: the same.
        input: parameters of the input's codes; None where the input is float.
        output: parameters of the output's codes; None where the output is float.
        input_shape: with the batch of 1 in front.
        output_shape: with the batch of 1 in front.
    """

    def __init__(self, content: bytes, kernels: Kernels = "reference", border: Border | None = None) -> None:
        """Load the file and allocate its tensors.

        Raises:
            ValueError: LiteRT refuses the file.
        """
        try:
            self._interpreter = Interpreter(
                model_content=content, num_threads=1, experimental_op_resolver_type=_RESOLVERS[kernels]
            )
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"LiteRT refuses the model: {error}") from error
        self.border = border or Border()
        source, target = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self._source_index, self._target_index = int(source["index"]), int(target["index"])
        self.input, self.output = _affine(source), _affine(target)
        self.input_shape = tuple(int(size) for size in source["shape"])
        self.output_shape = tuple(int(size) for size in target["shape"])

    def invoke(self, sample: NDArray[Any]) -> NDArray[Any]:
        """Run one stored sample, shape (1, *shape), in the model's own types; states are reset before.

        A fused LSTM keeps its state between invocations until it is reset: each sample starts anew.
        """
        self._interpreter.reset_all_variables()
        self._interpreter.set_tensor(self._source_index, sample)
        self._interpreter.invoke()
        output: NDArray[Any] = self._interpreter.get_tensor(self._target_index)
        return output

    def quantize(self, inputs: NDArray[np.float32]) -> Codes:
        """Return the stored input codes of the torch network's real inputs, (n, ...)."""
        if self.input is None:
            raise ValueError("the model has a float input, not codes")
        scaled = inputs.astype(np.float32) / np.float32(self.input.scale)
        codes = np.clip(round_half_away_array(scaled) + self.input.zero_point, self.input.low, self.input.high)
        return self._stored(codes.astype(_CODE_TYPES[self.input.bits]))

    def codes(self, inputs: NDArray[np.float32]) -> Codes:
        """Return the output codes of real inputs, (n, ...), both in the torch network's order."""
        return self._outputs(self.quantize(inputs))

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return real outputs of real inputs, shape (n, *shape), one at a time, both in the torch network's order."""
        if self.output is None:
            return self._outputs(self._stored(inputs))
        return dequantize(self.codes(inputs), self.output)

    def _stored(self, inputs: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(inputs.transpose(self.border.input.to_stored(inputs.ndim)))

    def _outputs(self, stored: NDArray[Any]) -> NDArray[Any]:
        outputs = np.concatenate([self.invoke(sample[None]) for sample in stored])
        return outputs.transpose(self.border.output.to_torch(outputs.ndim))

    def latency_ms(self, repeats: int = 20) -> float:
        """Return the median milliseconds of an invocation on zeros, after two that are not counted."""
        dtype = np.float32 if self.input is None else _CODE_TYPES[self.input.bits]
        sample = np.zeros(self.input_shape, dtype)
        times = []
        for _ in range(repeats + 2):
            start = time.perf_counter()
            self.invoke(sample)
            times.append(time.perf_counter() - start)
        return float(np.median(times[2:]) * 1e3)


def dequantize(codes: NDArray[Any], affine: Affine) -> NDArray[np.float32]:
    """Return the real values of codes of any shape."""
    return ((codes.astype(np.float32) - affine.zero_point) * np.float32(affine.scale)).astype(np.float32)


def _affine(details: dict[str, Any]) -> Affine | None:
    bits = next((bits for bits, dtype in _CODE_TYPES.items() if details["dtype"] is dtype), None)
    if bits is None:
        return None
    scale, zero_point = details["quantization"]
    return Affine(float(scale), int(zero_point), bits)
