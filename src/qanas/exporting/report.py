"""What is told of an export: what the file costs, how well it computes, and what its input and output are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanas.core.card import LayerNoise
from qanas.deployment.parity import ParitySteps
from qanas.quantization.border import AxisOrder, only
from qanas.quantization.numbers.affine import Affine

Reals = NDArray[np.float32]

SHOWN_LAYERS = 8
"""Of those that make noise; all are in the JSON."""


@dataclass(frozen=True)
class StoredTensor:
    """The file's input or output.

    Attributes:
        shape: with the batch of 1 in front.
        dtype: int8 or float32.
        scale: real value = scale * (code - zero point); None where the values are real.
        zero_point: the code of 0; None where the values are real.
        axes: for each axis of the shape but the batch, its number in torch; empty where the order is the same.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    axes: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], affine: Affine | None, order: AxisOrder) -> StoredTensor:
        """Describe a tensor whose codes have some parameters; None: real values."""
        if affine is None:
            return cls(shape, "float32", None, None, order.axes)
        return cls(shape, f"int{affine.bits}", affine.scale, affine.zero_point, order.axes)

    @property
    def layout(self) -> str:
        """How the axes lie, in words."""
        return AxisOrder(self.axes).described(len(self.shape))

    def __str__(self) -> str:
        """Return all of it on one line."""
        codes = "" if self.scale is None else f", scale {self.scale:.9g}, zero point {self.zero_point}"
        return f"{self.dtype} {list(self.shape)}{codes}; {self.layout}"


@dataclass(frozen=True)
class ShippedOutput:
    """One output of the file, and how well it computes.

    Attributes:
        tensor: how it is stored.
        sqnr_db: against torch's in float32, see `ratios_about_mean`.
        worst_channel_db: the same of the channel that is worst.
        worst_channel: which one that is; None where no channel has any signal.
        parity: distance between simulated and deployed values in steps; None where nothing is quantized.
    """

    tensor: StoredTensor
    sqnr_db: float
    worst_channel_db: float
    worst_channel: int | None
    parity: ParitySteps | None

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; a ratio that is infinite is None."""
        parity = None if self.parity is None else asdict(self.parity)
        worst = {"sqnr_db_worst_channel": _finite(self.worst_channel_db), "worst_channel": self.worst_channel}
        return {**asdict(self.tensor), "sqnr_db": _finite(self.sqnr_db), **worst, "parity": parity}


@dataclass(frozen=True)
class Export:
    """What became of an export.

    Attributes:
        network: ``module:object``.
        path: of the file.
        failure: why it wasn't written; empty if it was.
        precision: ``int8``, ``int16``, both, or ``float32``.
        scheme: the quantization scheme's name; None where nothing is quantized.
        quantization: the scheme in words, with what was changed of it; None where nothing is quantized.
        sha256: of the file.
        costs: in bytes and multiply-accumulates, by the names of `SHIPPED_COSTS`.
        inputs: of the file, by their names.
        outputs: of the file, by their names.
        samples: how many samples were compared.
        checked_on: which ones: those that were held back from the calibration, those of ``--check``, or the
            calibration's own.
        notes: what whoever ships the file should know, a line each.
        layer_noise: which layers' integers make the noise, the largest share first; empty where nobody asked.
    """

    network: str
    path: str
    failure: str
    precision: str
    scheme: str | None
    quantization: str | None
    sha256: str
    costs: Mapping[str, int]
    inputs: Mapping[str, StoredTensor]
    outputs: Mapping[str, ShippedOutput]
    samples: int
    checked_on: str
    notes: tuple[str, ...] = ()
    layer_noise: tuple[LayerNoise, ...] = ()

    @property
    def input(self) -> StoredTensor:
        """The only input."""
        return only(list(self.inputs.values()), "inputs")

    @property
    def output(self) -> StoredTensor:
        """The only output."""
        return only(list(self.outputs.values()), "outputs").tensor

    @property
    def sqnr_db(self) -> float:
        """That of the worst output."""
        return min(output.sqnr_db for output in self.outputs.values())

    @property
    def parity(self) -> ParitySteps | None:
        """That of all outputs together; None where nothing is quantized."""
        parts = [output.parity for output in self.outputs.values() if output.parity is not None]
        return ParitySteps.together(parts) if parts else None

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; a ratio that is infinite (no error at all, or no signal) is None.

        ``input`` and ``output`` are there where there is one of them.
        """
        told = {name: getattr(self, name) for name in ("network", "path", "failure", "precision", "scheme")}
        single: dict[str, Any] = {"input": asdict(self.input)} if len(self.inputs) == 1 else {}
        single |= {"output": asdict(self.output)} if len(self.outputs) == 1 else {}
        return {
            **told,
            "quantization": self.quantization,
            "sha256": self.sha256,
            "costs": dict(self.costs),
            **single,
            "inputs": {name: asdict(tensor) for name, tensor in self.inputs.items()},
            "outputs": {name: output.as_json() for name, output in self.outputs.items()},
            "samples": self.samples,
            "checked_on": self.checked_on,
            "sqnr_db": _finite(self.sqnr_db),
            "sqnr_db_worst_channel": _finite(min(output.worst_channel_db for output in self.outputs.values())),
            "parity": None if self.parity is None else asdict(self.parity),
            "notes": list(self.notes),
            **({"layer_noise": [layer.model_dump() for layer in self.layer_noise]} if self.layer_noise else {}),
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        costs = [f"{name:<20}{cost}" for name, cost in self.costs.items()]
        scheme = "" if self.scheme is None else f", scheme {self.scheme}"
        parity = []
        if self.parity is not None:
            steps = self.parity
            parity = [f"{'parity':<20}max {steps.max}, mean {steps.mean:.3g} steps over {steps.n_outputs} outputs"]
        whose = "deployed" if len(self.outputs) == 1 else "the worst output, deployed"
        return [
            f"{self.network} as {self.precision}{scheme}",
            *costs,
            (
                f"{'sqnr_db':<20}{self.sqnr_db:.2f} ({whose} against torch in float32, "
                f"{self.samples} samples {self.checked_on})"
            ),
            *parity,
            *([] if self.quantization is None else [f"{'quantization':<20}{self.quantization}"]),
            *(f"{'input':<20}{self._named(name, self.inputs)}{tensor}" for name, tensor in self.inputs.items()),
            *(
                f"{'output':<20}{self._named(name, self.outputs)}{output.tensor}{self._ratio(output)}"
                for name, output in self.outputs.items()
            ),
            *(f"{'note':<20}{note}" for note in self.notes),
            *self._noise_lines(),
        ]

    def _noise_lines(self) -> list[str]:
        """Return the layers that make most of the noise."""
        shown = self.layer_noise[:SHOWN_LAYERS]
        left = len(self.layer_noise) - len(shown)
        return [
            *(
                f"{'noise' if not number else '':<20}{layer.share:6.1%} with {layer.layer} ({layer.operator}), "
                f"itself at {layer.own_sqnr_db:.1f} dB"
                for number, layer in enumerate(shown)
            ),
            *([f"{'':<20}and {left} further layers" if left > 1 else f"{'':<20}and a further layer"] if left else []),
        ]

    @staticmethod
    def _named(name: str, side: Mapping[str, object]) -> str:
        return "" if len(side) == 1 else f"{name}: "

    def _ratio(self, output: ShippedOutput) -> str:
        return "" if len(self.outputs) == 1 else f"; sqnr_db {output.sqnr_db:.2f}"


def _finite(ratio: float) -> float | None:
    return ratio if math.isfinite(ratio) else None


def sqnr_db(wanted: Reals, got: Reals) -> float:
    """Return the signal-to-quantization-noise ratio ``10 log10(sum y^2 / sum (y - y')^2)`` over all values.

    Infinite without any error; minus infinite where nothing but an error is there.

    >>> round(sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])), 6)
    20.0
    """
    exact = wanted.astype(np.float64)
    noise = float(((exact - got.astype(np.float64)) ** 2).sum())
    signal = float((exact**2).sum())
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def ratios_about_mean(wanted: Reals, got: Reals) -> tuple[float, float, int | None]:
    """Return `sqnr_db` about the mean of every channel, that of the worst channel, and which one that is.

    A constant that is added to a channel is no signal: beside it an error would look small. Channels are torch's first
    axis behind the batch. One that never changes has no ratio of its own.

    Args:
        wanted: torch's, shape (n, channels, ...).
        got: the deployed file's, of the same shape.

    >>> wanted = np.array([[299.0, 0.0], [301.0, 0.0]])
    >>> ratios_about_mean(wanted, np.array([[299.1, 0.0], [300.9, 0.0]]))
    (20.0, 20.0, 0)
    """
    exact = wanted.astype(np.float64).reshape(len(wanted), wanted.shape[1] if wanted.ndim > 1 else 1, -1)
    errors = (got.astype(np.float64).reshape(exact.shape) - exact) ** 2
    about = (exact - exact.mean((0, 2), keepdims=True)) ** 2
    if not about.any():  # one sample alone, or nothing but constants
        about = exact**2
    signal, noise = about.sum((0, 2)), errors.sum((0, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(noise > 0, 10.0 * np.log10(signal / noise), np.inf)
        overall = 10.0 * np.log10(signal.sum() / noise.sum()) if noise.any() else np.inf
    living = np.flatnonzero(signal > 0)
    if not len(living):
        return round(float(overall), 9), round(float(overall), 9), None
    worst = int(living[np.argmin(ratios[living])])
    return round(float(overall), 9), round(float(ratios[worst]), 9), worst


def far_from_zero(wanted: Reals, affine: Affine) -> str | None:
    """Return what to tell of an output that moves little, but far from 0, which codes have to cover, too.

    Args:
        wanted: torch's, shape (n, ...).
        affine: parameters of the output's codes.

    >>> values = np.linspace(295, 305, 50, dtype=np.float32)[:, None]
    >>> far_from_zero(values, Affine.from_range(0.0, 305.0))[:34]
    'its values reach from 295 to 305, '
    >>> far_from_zero(values - 300, Affine.from_range(-5.0, 5.0))
    """
    (low, high), lowest, highest = affine.span, float(wanted.min()), float(wanted.max())
    if not 0.0 < highest - lowest < COARSE_SHARE * (high - low):
        return None
    if max(highest, 0.0) - min(lowest, 0.0) < (high - low) / 2:
        return None  # it isn't 0 that makes the codes reach so far
    return (
        f"its values reach from {lowest:.4g} to {highest:.4g}, but codes have to reach 0 as well: one step is "
        f"{affine.scale:.3g}; let the network put out the difference from a constant, and add that behind it"
    )


COARSE_DB = 10.0
"""A part of an output below this is hardly there."""

COARSE_SHARE = 1 / 8
"""Of the range that an output's codes cover: what reaches less far had a finer step by itself."""

MOSTLY_ROUNDING = 4
"""Times what an output's rounding makes of noise: with more it is another's."""

NAMED_PARTS = 6
"""Parts that are named at most."""


def lost(wanted: Reals, got: Reals) -> str | None:
    """Return what to tell of an output of which quantization leaves hardly anything; None where it leaves more.

    Args:
        wanted: torch's, shape (n, ...).
        got: the deployed file's, of the same shape.
    """
    ratio, *_ = ratios_about_mean(wanted, got)
    if ratio >= COARSE_DB:
        return None
    return f"{ratio:.1f} dB about the mean are hardly anything of what torch computes"


def coarse_parts(wanted: Reals, got: Reals, affine: Affine) -> str | None:
    """Return what to tell of an output where one step is too coarse for a part of it; None where it isn't.

    A part is what has one number on torch's first or last axis: the scores beside boxes in pixels. Its ratio is taken
    about its mean, for a constant offset would hide the error.

    Args:
        wanted: torch's, shape (n, ...).
        got: the deployed file's, of the same shape.
        affine: parameters of the output's codes.

    >>> boxes, scores = np.linspace(0, 320, 50), np.linspace(0, 1, 50)
    >>> both = np.stack([boxes, scores], 1).astype(np.float32)
    >>> affine = Affine.from_range(0.0, 320.0)
    >>> coarse_parts(both, np.round(both / affine.scale) * affine.scale, affine)[:32]
    'number 1 of axis 1 is at -2.6 dB'
    """
    low, high = affine.span
    for axis in sorted({1, wanted.ndim - 1} & set(range(1, wanted.ndim))):
        parts, errors = (
            np.moveaxis(values.astype(np.float64), axis, 0).reshape(wanted.shape[axis], -1)
            for values in (wanted, got - wanted)
        )
        signal, noise = parts.var(1), (errors**2).mean(1)
        ratios = 10.0 * np.log10(np.maximum(signal, 1e-300) / np.maximum(noise, 1e-300))
        rounding = affine.scale**2 / 12  # of the output itself: what comes from inside no step of it mends
        coarse = (signal > 0) & (ratios < COARSE_DB) & (noise < MOSTLY_ROUNDING * rounding)
        coarse &= np.abs(parts).max(1) < COARSE_SHARE * (high - low)
        if coarse.any() and not coarse.all():
            numbers = np.flatnonzero(coarse)
            named = ", ".join(map(str, numbers[:NAMED_PARTS])) + (", ..." if len(numbers) > NAMED_PARTS else "")
            which = f"number {named} of axis {axis} is" if len(numbers) == 1 else f"numbers {named} of axis {axis} are"
            return (
                f"{which} at {ratios[coarse].min():.1f} dB about the mean: one step of {affine.scale:.3g} is too "
                "coarse for what reaches less far than the rest; return it as an output of its own (a tuple, a dict)"
            )
    return None
