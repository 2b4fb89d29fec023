"""Runs .onnx files in ONNX Runtime."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from qanas.quantization.border import Border
from qanas.quantization.numbers.affine import Affine

OnnxKernels = Literal["fused", "literal"]

EXACT_SUMS = ("session.x64quantprecision", "1")
"""On x64 processors without VNNI, the runtime's default kernels saturate sums of two products at 16 bits: outputs were
up to 95 steps off. This option takes slower ones that don't; elsewhere it changes nothing."""

FATAL_ONLY = 4

_OPTIMIZATIONS = {
    "fused": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "literal": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class OnnxModel:
    """An .onnx file loaded in ONNX Runtime, on one thread.

    Args:
        content: the file's bytes.
        kernels: ``fused`` (integer kernels where there are any: the runtime's default) or ``literal`` (each node as
            the file has it, in floating point between codes).

    Attributes:
        border: input and output have torch's order.
        input: None: real numbers.
        output: None: real numbers.
        input_shape: with a batch of 1 in front.
        output_shape: with a batch of 1 in front.
    """

    def __init__(self, content: bytes, kernels: OnnxKernels = "fused") -> None:
        """Load the file.

        Raises:
            ValueError: ONNX Runtime refuses the file.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = _OPTIMIZATIONS[kernels]
        options.log_severity_level = FATAL_ONLY
        options.add_session_config_entry(*EXACT_SUMS)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it has a class of errors for each status
            raise ValueError(f"ONNX Runtime refuses the model: {error}") from error
        self.border = Border()
        self.input: Affine | None = None
        self.output: Affine | None = None
        (source,), (target,) = self._session.get_inputs(), self._session.get_outputs()
        self.input_shape = (1, *source.shape[1:])
        self.output_shape = (1, *target.shape[1:])

    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the real outputs of real inputs, (n, ...)."""
        (outputs,) = self._session.run(None, {"input": np.ascontiguousarray(inputs)})
        found: NDArray[np.float32] = outputs
        return found

    def codes(self, inputs: NDArray[np.float32], output: Affine) -> NDArray[Any]:
        """Return the output codes of real inputs, (n, ...), whose parameters the caller knows."""
        # Real outputs are whole steps times the scale: rounding gives the codes back exactly.
        steps: NDArray[np.int32] = np.rint(self.predict(inputs) / np.float32(output.scale)).astype(np.int32)
        return steps + output.zero_point
