"""Runs .tflite files in LiteRT, one sample at a time, as a device would."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from qanas.quantization.border import INPUT, OUTPUT, Arrays, Border, Port, arrays_by_name, arrays_like, only
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

    What goes in and comes out is one array, or arrays by name: asked with the one, it answers with the one.

    Args:
        content: the file's bytes.
        kernels: ``reference`` (bit-exact with microcontrollers' on convolutional networks) or ``optimized``.
        border: how the file stores what the torch network takes and gives; None: as torch has it, by the file's names.

    Attributes:
        border: the same.
        inputs: parameters of the inputs' codes by their names; None where the values are float.
        outputs: parameters of the outputs' codes by their names; None where the values are float.
        input_shapes: with the batch of 1 in front, by the inputs' names.
        output_shapes: with the batch of 1 in front, by the outputs' names.
    """

    def __init__(self, content: bytes, kernels: Kernels = "reference", border: Border | None = None) -> None:
        """Load the file and allocate its tensors.

        Raises:
            ValueError: LiteRT refuses the file, or it has not as many inputs and outputs as the border.
        """
        try:
            self._interpreter = Interpreter(
                model_content=content, num_threads=1, experimental_op_resolver_type=_RESOLVERS[kernels]
            )
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"LiteRT refuses the model: {error}") from error
        sources, targets = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.border = border or Border(_ports(sources, INPUT), _ports(targets, OUTPUT))
        if (len(sources), len(targets)) != (len(self.border.inputs), len(self.border.outputs)):
            raise ValueError(f"the model has {len(sources)} inputs and {len(targets)} outputs, other numbers than told")
        self._sources = dict(zip(self.border.input_names, sources, strict=True))
        self._targets = dict(zip(self.border.output_names, targets, strict=True))
        self.inputs: Mapping[str, Affine | None] = {name: _affine(details) for name, details in self._sources.items()}
        self.outputs: Mapping[str, Affine | None] = {name: _affine(details) for name, details in self._targets.items()}
        self.input_shapes: Mapping[str, tuple[int, ...]] = {
            name: _shape(details) for name, details in self._sources.items()
        }
        self.output_shapes: Mapping[str, tuple[int, ...]] = {
            name: _shape(details) for name, details in self._targets.items()
        }

    @property
    def input(self) -> Affine | None:
        """Parameters of the only input's codes; None where it is float."""
        return only(list(self.inputs.values()), "inputs")

    @property
    def output(self) -> Affine | None:
        """Parameters of the only output's codes; None where it is float."""
        return only(list(self.outputs.values()), "outputs")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The only input's shape, with the batch of 1 in front."""
        return only(list(self.input_shapes.values()), "inputs")

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The only output's shape, with the batch of 1 in front."""
        return only(list(self.output_shapes.values()), "outputs")

    def invoke(self, sample: Arrays) -> Arrays:
        """Run one stored sample, each input of shape (1, *shape), in the model's own types; states are reset before.

        A fused LSTM keeps its state between invocations until it is reset: each sample starts anew.
        """
        self._interpreter.reset_all_variables()
        for name, values in arrays_by_name(sample, self.border.input_names).items():
            self._interpreter.set_tensor(self._sources[name]["index"], values)
        self._interpreter.invoke()
        outputs = {name: self._interpreter.get_tensor(details["index"]) for name, details in self._targets.items()}
        return arrays_like(sample, outputs)

    def quantize(self, inputs: Arrays) -> Arrays:
        """Return the stored input codes of the torch network's real inputs, each of shape (n, *shape)."""
        given = arrays_by_name(inputs, self.border.input_names)
        codes = {name: self._quantized(name, values) for name, values in given.items()}
        return arrays_like(inputs, self._stored(codes))

    def _quantized(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Return the codes of an input's real values, any shape."""
        affine = self.inputs[name]
        if affine is None:
            raise ValueError("the model has a float input, not codes")
        scaled = values.astype(np.float32) / np.float32(affine.scale)
        codes = np.clip(round_half_away_array(scaled) + affine.zero_point, affine.low, affine.high)
        return codes.astype(_CODE_TYPES[affine.bits])

    def codes(self, inputs: Arrays) -> Arrays:
        """Return the output codes of real inputs, each of shape (n, *shape), all in the torch network's order."""
        given = arrays_by_name(inputs, self.border.input_names)
        return arrays_like(inputs, self._outputs(self.quantize(given)))

    def accepted(self, inputs: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401 - whatever a person gives
        """Return what is given as real inputs of the torch network by their names, if it is that.

        Raises:
            ValueError: it isn't: another shape, no samples, or no finite numbers.
        """
        whole = inputs if isinstance(inputs, Mapping) else np.asarray(inputs)
        given = arrays_by_name(whole, self.border.input_names)
        found = {}
        for port in self.border.inputs:
            values, shape = np.asarray(given[port.name]), port.order.torch_shape(self.input_shapes[port.name][1:])
            if values.shape[1:] != shape or values.ndim == 0 or not len(values):
                wanted = ", ".join(map(str, ("n", *shape)))
                raise ValueError(
                    f"'{port.name}' has the shape {values.shape}, the model takes ({wanted}): n samples, at least one"
                )
            if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
                raise ValueError(f"'{port.name}' holds other things than finite numbers, for which there are no codes")
            found[port.name] = values
        if len(set(map(len, found.values()))) > 1:
            told = " and ".join(f"{len(values)} of '{name}'" for name, values in found.items())
            raise ValueError(f"{told}: give as many samples of each")
        return found

    def predict(self, inputs: Arrays) -> Arrays:
        """Return real outputs of real inputs, shape (n, *shape), one at a time, all in the torch network's order."""
        given = arrays_by_name(inputs, self.border.input_names)
        stored = self._stored(given) if None in self.inputs.values() else self.quantize(given)
        outputs = {
            name: values if (affine := self.outputs[name]) is None else dequantize(values, affine)
            for name, values in self._outputs(stored).items()
        }
        return arrays_like(inputs, outputs)

    def _stored(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return inputs, each of shape (n, *shape), in the order of axes of the file."""
        orders = {port.name: port.order for port in self.border.inputs}
        return {
            name: np.ascontiguousarray(values.transpose(orders[name].to_stored(values.ndim)))
            for name, values in inputs.items()
        }

    def _outputs(self, stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs, shape (n, *shape), in torch's order for stored inputs."""
        samples = zip(*stored.values(), strict=True)
        found = [
            self.invoke({name: part[None] for name, part in zip(stored, sample, strict=True)}) for sample in samples
        ]
        outputs = {}
        for port in self.border.outputs:
            whole = np.concatenate([entry[port.name] for entry in found])
            outputs[port.name] = whole.transpose(port.order.to_torch(whole.ndim))
        return outputs

    def latency_ms(self, repeats: int = 20) -> float:
        """Return the median milliseconds of an invocation on zeros, after two that are not counted."""
        sample = {name: np.zeros(self.input_shapes[name], details["dtype"]) for name, details in self._sources.items()}
        times = []
        for _ in range(repeats + 2):
            start = time.perf_counter()
            self.invoke(sample)
            times.append(time.perf_counter() - start)
        return float(np.median(times[2:]) * 1e3)


def _ports(details: Sequence[dict[str, Any]], usual: str) -> tuple[Port, ...]:
    """Return a file's inputs or outputs by its names for them; files of earlier versions have none."""
    unnamed = [usual] if len(details) == 1 else [f"{usual}_{number}" for number in range(len(details))]
    return tuple(Port(entry["name"] or name) for entry, name in zip(details, unnamed, strict=True))


def _shape(details: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in details["shape"])


def default_kernels_refusal(content: bytes) -> str | None:
    """Return why LiteRT's default kernels (XNNPACK where it has them) can't run a file; None where they can.

    Nothing is refused that the reference kernels refuse as well: `LiteRTModel` tells that.
    """
    with _quiet_errors():
        try:
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            return " ".join(str(error).split())
    return None


@contextlib.contextmanager
def _quiet_errors() -> Iterator[None]:
    """Keep what the delegate tells of itself from the screen: it writes past Python."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def dequantize(codes: NDArray[Any], affine: Affine) -> NDArray[np.float32]:
    """Return the real values of codes of any shape."""
    return ((codes.astype(np.float32) - affine.zero_point) * np.float32(affine.scale)).astype(np.float32)


def _affine(details: dict[str, Any]) -> Affine | None:
    bits = next((bits for bits, dtype in _CODE_TYPES.items() if details["dtype"] is dtype), None)
    if bits is None:
        return None
    scale, zero_point = details["quantization"]
    return Affine(float(scale), int(zero_point), bits)
