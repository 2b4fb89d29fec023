"""A network of one's own, trained already, to a file that ships: quantized, run in its runtime, compared; no search."""

from __future__ import annotations

import hashlib
import importlib.util
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from qanas.core.card import LayerNoise
from qanas.core.errors import InputError, unknown
from qanas.core.even_spread import evenly_spread
from qanas.core.run_folder import write_atomically
from qanas.deployment.litert import Kernels, LiteRTModel, default_kernels_refusal, dequantize
from qanas.deployment.parity import ParitySteps
from qanas.deployment.tflite import write_tflite
from qanas.exporting.report import (
    Export,
    Reals,
    ShippedOutput,
    StoredTensor,
    coarse_parts,
    far_from_zero,
    lost,
    ratios_about_mean,
    sqnr_db,
)
from qanas.exporting.scheme import ExportScheme
from qanas.exporting.source import Source
from qanas.hardware.costs import PROGRAM_COSTS, SHIPPED_COSTS, Blueprint, costs_of
from qanas.quantization.border import Border
from qanas.quantization.layer_noise import coarse_steps, layer_noise, samples_affordable, vanishing
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.convolution import QuantizedConvolution
from qanas.quantization.operators.transposed import QuantizedTransposedConvolution
from qanas.quantization.program import Program
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme

MAX_ONNX_MEAN_STEPS = 2.0
"""Bound on the mean distance between an ONNX model and the simulation, which is that of LiteRT's kernels: ONNX Runtime
rounds in other places. The largest distance has no bound: where two classes are equal, a step decides a softmax."""

MIN_FLOAT_SQNR_DB = 60.0
"""What a float file has to reach. Float32 itself leaves 100 dB and more; a wrong operator tens of dB."""


class Runtime(Protocol):
    """A file that was loaded into its runtime."""

    border: Border
    inputs: Mapping[str, Affine | None]
    outputs: Mapping[str, Affine | None]
    input_shapes: Mapping[str, tuple[int, ...]]
    output_shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Deployed:
    """A file that was run on the compared samples.

    Attributes:
        content: the file.
        model: in its runtime.
        precision: ``int8``, ``int16``, both, or ``float32``.
        scheme: the quantization scheme's name; None where nothing is quantized.
        quantization: the scheme in words, with what was changed of it.
        outputs: real values in torch's order, each of shape (n, *shape), by the outputs' names.
        costs: in bytes and multiply-accumulates.
        parity: distance between simulated and deployed outputs in steps, by the outputs' names; empty where nothing is
            quantized.
        failure: why it must not ship; empty if it may.
        quantized: the integer network; None where nothing is quantized.
    """

    content: bytes
    model: Runtime
    precision: str
    scheme: str | None
    quantization: str | None
    outputs: Mapping[str, Reals]
    costs: Mapping[str, float]
    parity: Mapping[str, ParitySteps]
    failure: str
    quantized: QuantizedGraph | None = None


def integer_tflite(source: Source, scheme: ExportScheme) -> Deployed:
    """Quantize, write the .tflite file and run it in LiteRT.

    Args:
        source: what is exported.
        scheme: how it is quantized.

    Raises:
        InputError: there is no such scheme, or the network can't have it.
    """
    quantized = scheme.quantize(source)
    program = quantized.program()
    content = write_tflite(program)
    model = _loaded(source, program, content)
    simulated = _simulated(quantized, source)  # first: it tells what a kernel would abort on, with the whole process
    codes = model.codes(source.compared)
    parity = _parity(simulated, codes)
    reasons = [_of(name, reason, parity) for name, steps in parity.items() if (reason := steps.failure()) is not None]
    return Deployed(
        content=content,
        model=model,
        precision=quantized.precision,
        scheme=scheme.name,
        quantization=scheme.description(source.graph),
        outputs=_real(quantized, codes),
        costs=costs_of(Blueprint(source.graph, quantized), SHIPPED_COSTS),
        parity=parity,
        failure=f"outside parity: {reasons[0]}" if reasons else _refusal(program, content),
        quantized=quantized,
    )


def _loaded(
    source: Source, program: Program, content: bytes, kernels: Sequence[Kernels] = ("reference",)
) -> LiteRTModel:
    """Return a file in LiteRT, with the first kernels that load it: the reference ones lack some of float32.

    Raises:
        InputError: LiteRT refuses it.
    """
    refusals = []
    for chosen in kernels:
        try:
            return LiteRTModel(content, chosen, source.graph.border)
        except ValueError as error:
            refusals.append(error)
    reason = " ".join(str(refusals[0]).split())
    mend = _fewer_axes(program, reason) or f"{_ALIKE}, or quantize less of it"
    raise InputError(f"'{source.name}' can't be exported: {reason}; {mend}") from refusals[0]


_ALIKE = "bring columns of the input and channels of layers to sizes that are alike"


MOST_AXES = 5
"""The batch among them: operators of more have no kernel here and there."""


def _fewer_axes(program: Program, reason: str) -> str:
    """Return what to do where a runtime names an operator of many axes as the one that it can't load; else empty."""
    many = {
        operator.kind
        for operator in program.operators
        if any(tensor is not None and len(tensor.shape) > MOST_AXES for tensor in operator.inputs)
    }
    kind = next((kind for kind in sorted(many) if kind in reason), None)
    return (
        "" if kind is None else f"{kind} has no kernel of so many axes; view what it gets with fewer: x.flatten(1, 2)"
    )


def _refusal(program: Program, content: bytes) -> str:
    """Return why the kernels that LiteRT takes by default can't run a file; empty where they can."""
    reason = default_kernels_refusal(content)
    if reason is None:
        return ""
    mend = _fewer_axes(program, reason) or f"{_ALIKE}: a rescaling by 256 or more has no kernel"
    return f"LiteRT's default kernels can't load the file ({reason}); {mend}"


def float_tflite(source: Source) -> Deployed:
    """Write the .tflite file in float32 and run it in LiteRT.

    Raises:
        InputError: LiteRT has no kernel of float32 for an operator, or refuses the file.
    """
    try:
        program = source.graph.program()
        content = write_tflite(program)
    except ValueError as error:
        raise InputError(f"'{source.name}' can't be exported: {error}") from error
    model = _loaded(source, program, content, ("reference", "optimized"))
    outputs = model.predict(source.compared)
    ratios = {name: sqnr_db(wanted, outputs[name]) for name, wanted in source.compared_outputs.items()}
    worst = min(ratios, key=lambda name: ratios[name])
    low = _of(worst, f"outputs are at {ratios[worst]:.1f} dB of torch's, less than {MIN_FLOAT_SQNR_DB:g}", ratios)
    # A blueprint has a quantized graph as well; what that costs is not looked at.
    blueprint = Blueprint(source.graph, QuantizedGraph.from_shapes(source.graph, Scheme()))
    floating = {cost.measure.name: cost.of(blueprint) for cost in PROGRAM_COSTS if cost.measure.float_}
    return Deployed(
        content=content,
        model=model,
        precision="float32",
        scheme=None,
        quantization=None,
        outputs=outputs,
        costs=floating,
        parity={},
        failure=_refusal(program, content) if ratios[worst] >= MIN_FLOAT_SQNR_DB else low,
    )


def int8_onnx(source: Source, scheme: ExportScheme) -> Deployed:
    """Quantize, write the ONNX model (QDQ) and run it in ONNX Runtime.

    Args:
        source: what is exported.
        scheme: how it is quantized; weights are stored in int8 tensors.

    Raises:
        InputError: the extra ``onnx`` is not installed, there is no such scheme, the network can't have it, or ONNX has
            not all of its operators quantized.
    """
    require_onnx()
    require_int8(scheme)
    from qanas.deployment.onnx.runtime import OnnxModel
    from qanas.deployment.onnx.write import UnsupportedOnnxError, write_onnx

    quantized = scheme.quantize(source)
    try:
        content = write_onnx(quantized)
    except UnsupportedOnnxError as error:
        raise InputError(f"'{source.name}' can't be exported: {error}") from error
    model = OnnxModel(content, border=source.graph.border)
    codes = model.codes(source.compared, quantized.outputs)
    parity = _parity(_simulated(quantized, source), codes)
    worst = max(parity, key=lambda name: parity[name].mean)
    mean = parity[worst].mean
    far = _of(worst, f"outputs differ by {mean:.3g} steps on average, more than {MAX_ONNX_MEAN_STEPS:g}", parity)
    return Deployed(
        content=content,
        model=model,
        precision="int8",
        scheme=scheme.name,
        quantization=scheme.description(source.graph),
        outputs=_real(quantized, codes),
        costs={"file_bytes": len(content), "macs": source.graph.macs},
        parity=parity,
        failure=f"outside parity: {far}" if mean > MAX_ONNX_MEAN_STEPS else "",
        quantized=quantized,
    )


def _simulated(quantized: QuantizedGraph, source: Source) -> Mapping[str, NDArray[Any]]:
    """Return the simulation's codes of the compared samples, each of shape (n, *shape), by the outputs' names.

    Raises:
        InputError: a kernel aborts on them.
    """
    try:
        codes = quantized.codes({name: torch.from_numpy(values) for name, values in source.compared.items()})
    except ValueError as error:
        raise InputError(f"'{source.name}' can't be exported: {error}") from error
    return {name: values.numpy() for name, values in codes.items()}


def _parity(simulated: Mapping[str, NDArray[Any]], codes: Mapping[str, NDArray[Any]]) -> Mapping[str, ParitySteps]:
    """Return how far a runtime's codes, each of shape (n, *shape), are from the simulation's, by the outputs' names."""
    return {name: ParitySteps.between(simulated[name], codes[name]) for name in codes}


def _real(quantized: QuantizedGraph, codes: Mapping[str, NDArray[Any]]) -> Mapping[str, Reals]:
    return {name: dequantize(values, quantized.outputs[name]) for name, values in codes.items()}


def _of(name: str, reason: str, outputs: Collection[str]) -> str:
    """Return a reason with the name of the output that it is about, where there are several."""
    return reason if len(outputs) == 1 else f"output '{name}': {reason}"


def noise_by_layer(source: Source, deployed: Deployed) -> tuple[LayerNoise, ...]:
    """Return which layers' integers make the noise, on some of the compared samples; nothing of a float file."""
    if deployed.quantized is None:
        return ()
    chosen = evenly_spread(source.compared_count, samples_affordable(source.graph))
    few = {name: torch.from_numpy(values[chosen]) for name, values in source.compared.items()}
    return tuple(layer_noise(deployed.quantized, few, source.graph))


def ship(source: Source, deployed: Deployed, out: Path) -> Export:
    """Write a file, atomically, unless it failed; say what it is."""
    model = deployed.model
    failure = source.failure or deployed.failure
    if not failure:
        write_atomically(out, deployed.content)
    return Export(
        network=source.name,
        path=str(out),
        failure=failure,
        precision=deployed.precision,
        scheme=deployed.scheme,
        quantization=deployed.quantization,
        sha256=hashlib.sha256(deployed.content).hexdigest(),
        costs={name: int(cost) for name, cost in deployed.costs.items()},
        inputs={
            port.name: StoredTensor.of(model.input_shapes[port.name], model.inputs[port.name], port.order)
            for port in model.border.inputs
        },
        outputs={
            port.name: ShippedOutput(
                StoredTensor.of(model.output_shapes[port.name], model.outputs[port.name], port.order),
                *ratios_about_mean(source.compared_outputs[port.name], deployed.outputs[port.name]),
                deployed.parity.get(port.name),
            )
            for port in model.border.outputs
        },
        samples=source.compared_count,
        checked_on=source.checked_on,
        notes=(*source.notes, *_coarse(source, deployed), *_uneven(deployed), *_fixed_steps(source, deployed)),
    )


def _coarse(source: Source, deployed: Deployed) -> list[str]:
    """Return what to tell of outputs whose step is too coarse for a part of them; that of a softmax is the kernel's."""
    nodes = {node.name: node.operator for node in source.graph.nodes}
    found, mend = [], ""
    for port, value in zip(source.graph.border.outputs, source.graph.outputs, strict=True):
        affine = deployed.model.outputs[port.name]
        if affine is None or (value in nodes and nodes[value].parameters_from == "kernel"):
            continue
        wanted = source.compared_outputs[port.name]
        got = deployed.outputs[port.name]
        note = far_from_zero(wanted, affine) or coarse_parts(wanted, got, affine)
        if note is None and (little := lost(wanted, got)):
            mend = mend or _mend_of_noise(source, deployed)
            note = f"{little}: {mend}"
        if note is not None:
            found.append(f"output '{port.name}': {note}")
    return found


def _mend_of_noise(source: Source, deployed: Deployed) -> str:
    """Return what may help where little is left: what most values of a layer vanish in, else what helps in general."""
    gone = {}
    if deployed.quantized is not None:
        gone = vanishing(deployed.quantized, _few_compared(source, MANY), source.graph)
    if gone:
        name, (largest, step) = next(iter(gone.items()))
        return (
            f"many values of '{name}' are less than half of its step of {step:.3g}, as some reach {largest:.3g}; after "
            "a division by what may be near 0 a larger constant in the divisor, or a clamp, keeps them"
        )
    finer = "" if "16" in deployed.precision else ", or take --scheme int16"
    return (
        "--noise tells the layers; calibrate with samples as the network will see them, train it "
        f"quantization-aware{finer}"
    )


def _few_compared(source: Source, count: int) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values[:count]) for name, values in source.compared.items()}


def _uneven(deployed: Deployed) -> list[str]:
    """Return what to tell of convolutions whose one scale leaves most of their channels hardly a step.

    So it is where a batch norm was folded that a channel hardly varied before: its weights are hundreds of times the
    others' (docs/results/person_detection.md).
    """
    found = []
    for name, operator in {} if deployed.quantized is None else deployed.quantized.operators.items():
        if not isinstance(operator, QuantizedConvolution | QuantizedTransposedConvolution):
            continue
        weights = operator.weights
        if len(weights.scales) > 1 or len(weights.codes) == 1:
            continue
        steps = statistics.median(weights.reaches.tolist())
        most = (1 << (weights.bits - 1)) - 1
        if steps < FEWEST_STEPS and steps * UNEVEN < most:
            found.append(
                f"layer '{name}': half of its channels have {steps:g} of {most} steps, as one scale serves all; "
                f"a scale a channel: --set layers.{name}.weight_scales=kernel"
            )
    return found


def _fixed_steps(source: Source, deployed: Deployed) -> list[str]:
    """Return what to tell of softmaxes, and other kernels whose step is fixed, between layers that it is coarse for."""
    if deployed.quantized is None:
        return []
    few = _few_compared(source, FEW)
    affines = deployed.quantized.affines
    return [
        f"layer '{name}': its values are small for its kernel's steps of 1/{1 / affines[name].scale:g}, whose rounding "
        f"leaves {ratio:.0f} dB; finer ones, in a .tflite, for more RAM: --set layers.{name}.activation_bits=16"
        for name, ratio in coarse_steps(deployed.quantized, few, source.graph).items()
    ]


FEW, MANY = 8, 64
"""Samples that tell how large values are, and how they are spread."""

FEWEST_STEPS, UNEVEN = 8, 4
"""A channel whose weights use fewer, and less than this part of those that there are, has next to nothing of them."""


def require_folder_of(path: Path) -> None:
    """Refuse a file that can't be written, before anything is computed.

    Raises:
        InputError: its folder doesn't exist, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: the folder {path.parent} doesn't exist; make it first")
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; name a file in it, such as {path / 'model.tflite'}")


def require_onnx() -> None:
    """Refuse ONNX where its packages are not installed.

    Raises:
        InputError: they aren't.
    """
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"--format onnx: {' and '.join(missing)} not installed; pip install 'qanas[onnx]'")


def require_int8(scheme: ExportScheme) -> None:
    """Refuse int4 tensors where the format's models have none.

    Raises:
        InputError: the scheme asks for some.
    """
    layers = scheme.scheme.layers
    if "int4" in (scheme.scheme.container, *(own.get("container") for own in layers.values())):
        raise InputError("--set container: --format onnx stores weights in int8 tensors; leave it out")


EXPORTERS: Mapping[str, Callable[[Source, ExportScheme], Deployed]] = {"tflite": integer_tflite, "onnx": int8_onnx}
"""What quantizes, by the format's name."""

FLOAT_FORMAT = "tflite-float32"


def exporter(
    file_format: str, scheme: str | None, changes: Sequence[str] = (), avoid: str | None = None
) -> Callable[[Source], Deployed]:
    """Return what makes a file of a format, having checked that it can.

    Args:
        file_format: a name of `EXPORTERS`, or `FLOAT_FORMAT`.
        scheme: a name of ``quantization/schemes.toml``; None: the default one.
        changes: of the scheme, see `ExportScheme.parse`.
        avoid: likewise.

    Raises:
        InputError: there is no such format or scheme, nothing is quantized by it, or its packages are not installed.
    """
    if file_format == FLOAT_FORMAT:
        given = {"--scheme": scheme, "--set": changes, "--avoid": avoid}
        option = next((name for name, entry in given.items() if entry), None)
        if option is not None:
            raise InputError(f"{option}: --format {FLOAT_FORMAT} quantizes nothing; leave one of them out")
        return float_tflite
    if file_format not in EXPORTERS:
        raise InputError(f"--format: {unknown('format', file_format, [*EXPORTERS, FLOAT_FORMAT])}")
    chosen = ExportScheme.parse(scheme, changes, avoid)
    if file_format == "onnx":
        require_onnx()
        require_int8(chosen)
    return lambda source: EXPORTERS[file_format](source, chosen)
