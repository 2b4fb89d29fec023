"""Runs .onnx files in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from qanas.quantization.border import Arrays, Border, Port, arrays_by_name, arrays_like
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
        border: inputs and outputs have torch's order.
        inputs: by their names; None: real numbers.
        outputs: by their names; None: real numbers.
        input_shapes: with a batch of 1 in front, by the inputs' names.
        output_shapes: with a batch of 1 in front, by the outputs' names.
    """

    def __init__(self, content: bytes, kernels: OnnxKernels = "fused", border: Border | None = None) -> None:
        """Load the file.

        Args:
            content: the file's bytes.
            kernels: see the class.
            border: of which inputs and outputs have their names; None: the file's own.

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
        sources, targets = self._session.get_inputs(), self._session.get_outputs()
        inputs = [part.name for part in sources] if border is None else border.input_names
        outputs = [part.name for part in targets] if border is None else border.output_names
        self.border = Border(tuple(map(Port, inputs)), tuple(map(Port, outputs)))
        self.inputs: Mapping[str, Affine | None] = dict.fromkeys(inputs)
        self.outputs: Mapping[str, Affine | None] = dict.fromkeys(outputs)
        self.input_shapes: Mapping[str, tuple[int, ...]] = {
            name: (1, *part.shape[1:]) for name, part in zip(inputs, sources, strict=True)
        }
        self.output_shapes: Mapping[str, tuple[int, ...]] = {
            name: (1, *part.shape[1:]) for name, part in zip(outputs, targets, strict=True)
        }
        self._fed = {name: part.name for name, part in zip(inputs, sources, strict=True)}

    def predict(self, inputs: Arrays) -> Arrays:
        """Return the real outputs of real inputs, shape (n, *shape): one array, or arrays by name."""
        given = arrays_by_name(inputs, self.border.input_names)
        fed = {self._fed[name]: np.ascontiguousarray(values) for name, values in given.items()}
        found = self._session.run(None, fed)
        return arrays_like(inputs, dict(zip(self.border.output_names, found, strict=True)))

    def codes(self, inputs: Arrays, outputs: Mapping[str, Affine]) -> Arrays:
        """Return the output codes of real inputs, shape (n, *shape): one array, or arrays by name.

        Args:
            inputs: by name, or the only one.
            outputs: the parameters of the codes, by the outputs' names.
        """
        given = arrays_by_name(inputs, self.border.input_names)
        found = {name: steps_of(values, outputs[name]) for name, values in self.predict(given).items()}
        return arrays_like(inputs, found)


def steps_of(values: NDArray[Any], affine: Affine) -> NDArray[Any]:
    """Return the codes of real numbers, any shape, that are whole steps times the scale: exactly those they were."""
    steps: NDArray[np.int32] = np.rint(values / np.float32(affine.scale)).astype(np.int32)
    return steps + affine.zero_point
