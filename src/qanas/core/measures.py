"""Measures: metrics, costs and scores as values, and what was measured. Nobody else takes their names apart."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from qanas.core.errors import InputError, unknown

Direction = Literal["minimize", "maximize"]
Precision = Literal["float", "quantized", "deployed"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

COST_UNITS: Mapping[str, str] = {
    "weight_bytes": "bytes",
    "packed_weight_bytes": "bytes",
    "file_bytes": "bytes",
    "peak_ram_bytes": "bytes",
    "arena_bytes": "bytes",
    "macs": "MACs",
    "front_end_macs": "MACs",
    "front_end_ram_bytes": "bytes",
    "front_end_flash_bytes": "bytes",
    "latency_ms": "ms",
    "cycles": "cycles",
    "instructions": "instructions",
    "flash_bytes": "bytes",
    "ram_bytes": "bytes",
}
"""Every cost that there is, with its unit."""

MULTIPLES: Mapping[str, Mapping[str, float]] = {
    "bytes": {"B": 1, "kB": 1e3, "KiB": 2**10, "MB": 1e6, "MiB": 2**20},
    "MACs": {"k": 1e3, "M": 1e6, "G": 1e9},
    "ms": {"us": 1e-3, "ms": 1, "s": 1e3},
    "cycles": {"k": 1e3, "M": 1e6, "G": 1e9},
    "instructions": {"k": 1e3, "M": 1e6, "G": 1e9},
}
"""By a cost's unit: what people write in its place, and how much that is."""

_TIMES = frozenset({"latency_ms", "cycles", "instructions"})
DEVICE_COSTS = frozenset({*_TIMES, "flash_bytes", "ram_bytes"})
"""Costs of a device, not of the network alone; they are never mixed."""

FRONT_END_COSTS = ("front_end_macs", "front_end_ram_bytes", "front_end_flash_bytes")
"""Of what makes the network's input of a raw one, beside the network: see `qanas.tasks.front_end`."""

QUANTIZED_COSTS = frozenset({"arena_bytes", *FRONT_END_COSTS})
"""Costs that there is no FP32 network's of."""

FLOAT_PREFIX = "float_"
"""In front of a cost: the FP32 network's."""

SHARED_PREFIX = "shared_"
"""In front of a metric with its precision: of a network with weights that it shares with others."""

SCORE_PATTERN = re.compile(
    r"nsr_(sum|\d+|log_sum|log_\d+|weighted|weighted_\d+)|replace_(one|\d+)|calibrated(_\d+)?|predicted_\w+|"
    rf"{SHARED_PREFIX}\w+_(float|quantized)"
)
"""Scores that stand for a metric: of blocks (noise, or loss), what a model predicts, with shared weights."""


@dataclass(frozen=True)
class Measure(ABC):
    """Something that a candidate can be measured by: a column of trials, fronts and finalists.

    Attributes:
        name: without precision, device or prefix.
    """

    name: str

    @property
    @abstractmethod
    def column(self) -> str:
        """Its name in recipes and tables."""

    @property
    @abstractmethod
    def direction(self) -> Direction:
        """Which way is better."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Of its values; empty where it has none, or only its task knows it."""

    def loss(self, value: float) -> float:
        """Return ``value`` with the sign that makes smaller better."""
        return value if self.direction == "minimize" else -value


@dataclass(frozen=True)
class Metric(Measure):
    """A task's metric of the FP32, the simulated or the deployed network.

    Attributes:
        precision: of which of them.
        better: which way is better.
    """

    precision: Precision = "quantized"
    better: Direction = "minimize"

    @property
    def column(self) -> str:
        """``<metric>_<precision>``."""
        return f"{self.name}_{self.precision}"

    @property
    def direction(self) -> Direction:
        """The task's."""
        return self.better

    @property
    def unit(self) -> str:
        """Known to the task alone."""
        return ""


@dataclass(frozen=True)
class Cost(Measure):
    """What a network costs; less is better.

    Attributes:
        device: whose latency; empty for the recipe's own device, and for what depends on none.
        float_: of the FP32 network instead of the one that ships.
    """

    device: str = ""
    float_: bool = False
    direction: ClassVar[Direction] = "minimize"

    @property
    def column(self) -> str:
        """As recipes write it: ``float_weight_bytes``, ``latency_ms@imxrt1170``."""
        return f"{FLOAT_PREFIX if self.float_ else ''}{self.name}{f'@{self.device}' if self.device else ''}"

    @property
    def unit(self) -> str:
        """Bytes, MACs, milliseconds, cycles or instructions."""
        return COST_UNITS[self.name]

    @property
    def of_device(self) -> bool:
        """Whether it is a device's: not known from shapes alone."""
        return self.name in DEVICE_COSTS

    @property
    def of_time(self) -> bool:
        """Whether less of it is faster, not smaller."""
        return self.name in _TIMES

    @classmethod
    def parse(cls, column: str) -> Cost | None:
        """Return the cost of that name; None where it is none.

        >>> Cost.parse("float_macs"), Cost.parse("latency_ms@host"), Cost.parse("units")
        (Cost(name='macs', device='', float_=True), Cost(name='latency_ms', device='host', float_=False), None)
        """
        plain, at, device = column.partition("@")
        name = plain.removeprefix(FLOAT_PREFIX)
        of_device = name in DEVICE_COSTS
        if (
            name not in COST_UNITS
            or (name in DEVICE_COSTS | QUANTIZED_COSTS and name != plain)
            or (at and not (of_device and device))
        ):
            return None
        return cls(name, device, name != plain)


@dataclass(frozen=True)
class Score(Measure):
    """What stands for a metric while a search goes on, such as ``nsr_sum``; less is better but where it is said.

    Attributes:
        better: which way is better.
    """

    better: Direction = "minimize"

    @property
    def column(self) -> str:
        """Its name."""
        return self.name

    @property
    def direction(self) -> Direction:
        """The estimator's."""
        return self.better

    @property
    def unit(self) -> str:
        """None: ratios and predictions."""
        return ""


def measure_of(column: str, directions: Mapping[str, Direction] | None = None) -> Measure | None:
    """Return what a column of a table holds; None where it is a setting or a fixed column.

    Args:
        column: its name.
        directions: of metrics, by their names, where they are known; others are minimised.

    >>> measure_of("mae_uncapped_quantized").name, measure_of("nsr_3").name, measure_of("units_1")
    ('mae_uncapped', 'nsr_3', None)
    """
    cost = Cost.parse(column)
    if cost is not None:
        return cost
    if SCORE_PATTERN.fullmatch(column):
        stands_for = measure_of(column.removeprefix(SHARED_PREFIX), directions) if SHARED_PREFIX in column else None
        return Score(column, stands_for.direction if stands_for is not None else "minimize")
    metric, _, precision = column.rpartition("_")
    found = next((entry for entry in PRECISIONS if entry == precision), None)
    if not metric or found is None:
        return None
    return Metric(metric, found, (directions or {}).get(metric, "minimize"))


def parse_objective(column: str, direction: str, metrics: Mapping[str, Direction]) -> Measure:
    """Return the measure that a recipe's objective names.

    Args:
        column: ``<metric>_float``, ``<metric>_quantized`` or a cost.
        direction: that the recipe writes.
        metrics: the task's, with their directions.

    Raises:
        InputError: no such objective, or the direction that looks for the worst.
    """
    measure: Measure | None = Cost.parse(column)
    for precision in ("float", "quantized"):
        metric, suffix, rest = column.rpartition(f"_{precision}")
        if suffix and not rest and metric in metrics:
            measure = Metric(metric, precision, metrics[metric])
    if measure is None:
        known = [Metric(name, precision).column for name in metrics for precision in ("float", "quantized")]
        raise InputError(f"objectives.{column}: {unknown('objective', column, [*known, *cost_columns()])}")
    if direction != measure.direction:
        raise InputError(f"objectives.{column}: '{direction}' would look for the worst; write '{measure.direction}'")
    return measure


def parse_cost(column: str, table: str = "limits") -> Cost:
    """Return the cost that a recipe's limit names.

    Raises:
        InputError: there is none of that name.
    """
    cost = Cost.parse(column)
    if cost is None:
        raise InputError(f"{table}.{column}: {unknown('limit', column, cost_columns())}")
    return cost


def cost_columns() -> list[str]:
    """Return the names of all costs, the quantized network's first; a device's, which has no name yet, are the last."""
    shapes = [name for name in COST_UNITS if name not in DEVICE_COSTS]
    floats = [Cost(name, float_=True).column for name in shapes if name not in QUANTIZED_COSTS]
    return [*shapes, *floats, *sorted(DEVICE_COSTS)]


def counted(cost: float) -> str:
    """Write a cost: counts with all their digits, so that a bound and what is just above it differ.

    >>> counted(1048577.0), counted(0.0512345)
    ('1048577', '0.0512345')
    """
    return str(int(cost)) if float(cost).is_integer() else f"{cost:g}"


@dataclass(frozen=True)
class Limit:
    """An upper bound on a cost: ``cost <= bound``, checked before any training.

    Attributes:
        cost: that is bounded.
        bound: in its unit.
        beside: what has to fit in as well, where it is known.
    """

    cost: Cost
    bound: float
    beside: Cost | None = None

    @classmethod
    def parse(cls, cost: Cost, text: str) -> Limit:
        """Return the limit of a bound as people write it: a number, with a unit or without.

        Args:
            cost: that is bounded.
            text: such as ``64 kB``.

        Raises:
            ValueError: it is something else.

        >>> Limit.parse(Cost("file_bytes"), "64 kB").bound, Limit.parse(Cost("latency_ms"), "0.5s").bound
        (64000.0, 500.0)
        """
        multiples = MULTIPLES[cost.unit]
        found = re.fullmatch(r"([\d._]+(?:[eE][+-]?\d+)?) *([A-Za-z]*)", text.strip(), re.ASCII)
        if found is None or found[2] not in {"", *multiples}:
            raise ValueError(f"{text!r} is no number of {cost.unit}, also not with {', '.join(multiples)} behind it")
        return cls(cost, float(found[1]) * multiples.get(found[2], 1))

    def excess(self, costs: Mapping[str, float]) -> float:
        """Return how far the cost is over the bound, relative to it; at most 0 where it is met.

        Args:
            costs: by column.
        """
        return (costs[self.cost.column] + self._besides(costs) - self.bound) / max(abs(self.bound), 1.0)

    def told(self, costs: Mapping[str, float]) -> str:
        """Return in words what is over the bound.

        Args:
            costs: by column.

        >>> limit = Limit(Cost("arena_bytes"), 100, Cost("front_end_ram_bytes"))
        >>> limit.told({"arena_bytes": 90.0, "front_end_ram_bytes": 20.0})
        'arena_bytes 90 + front_end_ram_bytes 20 > 100'
        """
        column, besides = self.cost.column, self._besides(costs)
        more = f" + {self.beside.column} {counted(besides)}" if self.beside is not None and besides else ""
        return f"{column} {counted(costs[column])}{more} > {counted(self.bound)}"

    def _besides(self, costs: Mapping[str, float]) -> float:
        return costs.get(self.beside.column, 0.0) if self.beside is not None else 0.0


@dataclass(frozen=True)
class Goal:
    """A score to be reached on validation data: at least, or at most, by the metric's direction."""

    metric: Metric
    bound: float

    @classmethod
    def parse(cls, column: str, bound: float, metrics: Mapping[str, Direction], table: str = "goals.") -> Goal:
        """Return the goal that a recipe or a command line names.

        Args:
            column: a metric's name, with ``_quantized`` (which a name alone is read as) or ``_float`` behind it.
            bound: to be reached.
            metrics: the task's, with their directions.
            table: that it is in, for messages.

        Raises:
            InputError: there is no such metric, or the bound is no number.
        """
        found = measure_of(column, metrics)
        metric = found if isinstance(found, Metric) and found.name in metrics else None
        if metric is None and column in metrics:
            metric = Metric(column, "quantized", metrics[column])
        if metric is None:
            raise InputError(f"{table}{column}: {unknown('goal', column, [f'{name}_quantized' for name in metrics])}")
        if not math.isfinite(bound):
            raise InputError(f"{table}{column}: {bound} is no finite number")
        return cls(metric, bound)

    @property
    def shipped_precision(self) -> Precision:
        """Of a shipped model what is held against it: the file as it is deployed, but where float is asked for."""
        return "float" if self.metric.precision == "float" else "deployed"

    def lacking(self, value: float) -> float:
        """Return how far a score is from it; at most 0 where it is reached."""
        return math.inf if math.isnan(value) else self.metric.loss(value) - self.metric.loss(self.bound)

    def told(self) -> str:
        """Return it in words.

        >>> Goal(Metric("accuracy", better="maximize"), 0.9).told()
        'accuracy >= 0.9'
        """
        precision = " (float)" if self.metric.precision == "float" else ""
        sign = ">=" if self.metric.direction == "maximize" else "<="
        return f"{self.metric.name}{precision} {sign} {self.bound:g}"


@dataclass(frozen=True)
class Measurement:
    """What one trial found out.

    Attributes:
        scores: validation metrics, and what stands for them, by column.
        costs: by column: of the network as it ships, and of the FP32 network.
        train_seconds: CPU seconds spent in training.
    """

    scores: Mapping[str, float]
    costs: Mapping[str, float]
    train_seconds: float = 0.0

    def value(self, measure: Measure) -> float:
        """Return what was measured.

        Raises:
            KeyError: it was not.
        """
        return (self.costs if isinstance(measure, Cost) else self.scores)[measure.column]


ROW_PATTERN = re.compile(r"row_\d+")
"""Which row of each block's table a network is made of."""

CONFIRMED = "confirmed"
"""How many further trainings a front point's scores are the means of."""

TRAIN_LOSSES = "train_losses"
"""The learning curve of a trial: its loss on training data, a list with a number an epoch."""

CURVE = "curve_"
"""In front of the columns of a trial's learning curve: lists with a number a point, ``curve_epoch``, and each metric on
training and on validation samples, ``curve_train_mae``, ``curve_val_mae``."""

FIXED_COLUMNS = frozenset(
    {
        "number", "index", "candidate", "key", "outcome", "reason", "status", "seed_network", "feasible", "parent",
        "train_seconds", "started_at", "finished_at", "n", "blamed", "described", "degenerate", TRAIN_LOSSES,
        CONFIRMED,
    }
)  # fmt: skip
"""What tables call their own columns."""


def setting_columns(
    config: Mapping[str, Mapping[str, bool | int | float | str]],
) -> dict[str, bool | int | float | str]:
    """Return a candidate's settings by column: the setting's own name or, where that is taken, its group in front.

    A user's setting may be called ``key``, ``macs`` or ``mae_quantized`` and must not overwrite what is.

    Args:
        config: settings, group by group.

    >>> setting_columns({"architecture": {"units": 4, "macs": 2}})
    {'units': 4, 'architecture.macs': 2}
    """
    return {
        name if is_free(name) else f"{group}.{name}": value
        for group, settings in config.items()
        for name, value in settings.items()
    }


_TAKEN = re.compile(rf"{ROW_PATTERN.pattern}$|{CURVE}(epoch$|train_|val_)")


def is_free(column: str) -> bool:
    """Tell whether a setting may have a column of that name."""
    return column not in FIXED_COLUMNS and not _TAKEN.match(column) and measure_of(column) is None


def is_setting(column: str) -> bool:
    """Tell the settings among a table's columns."""
    return is_free(column)


def columns_of(measures: Iterable[Measure]) -> list[str]:
    """Return the columns of some measures."""
    return [measure.column for measure in measures]
