"""The card of a shipped model: how it was found, what it costs, how it scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from qanas.core.candidate import Value
from qanas.core.classes import Classes, Degenerate
from qanas.core.measures import FRONT_END_COSTS, Cost, Goal, Precision

SCHEMA_VERSION = 1

Kind = Literal["reference", "found", "baseline"]
"""Where a shipped model comes from; "found" is the search's."""

SplitName = Literal["val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
"""The splits that models are scored on."""

_STRICT = ConfigDict(extra="forbid", frozen=True)


def _or_nan(value: object) -> object:
    return math.nan if value is None else value


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


Number = Annotated[
    float,
    BeforeValidator(_or_nan),
    PlainSerializer(_or_null, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]
"""A metric's value: NaN where it is not defined, which JSON has as null."""


class Statistic(BaseModel):
    """One metric over the trainings of a finalist; null where it is not defined.

    Attributes:
        shipped: of the training that ships.
        mean: over the trainings.
        std: sample standard deviation (n - 1); 0 where n is 1.
        n: trainings.
    """

    model_config = _STRICT
    shipped: Number
    mean: Number
    std: Number
    n: int = Field(ge=1)

    @classmethod
    def of(cls, values: Sequence[float], shipped: int) -> Statistic:
        """Summarise the values of all trainings, of which the one at index ``shipped`` ships."""
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(shipped=values[shipped], mean=float(np.mean(values)), std=spread, n=len(values))


class BorderTensor(BaseModel):
    """The model's input or output.

    Attributes:
        shape: with the batch of 1 in front.
        dtype: as stored.
        scale: real value = scale * (code - zero_point).
        zero_point: the code of 0.
        axes: for each axis of the shape but the batch, its number in the torch network's value; empty where the
            order is the same. An image's (channels, rows, columns) are stored (rows, columns, channels): 1, 2, 0.
    """

    model_config = _STRICT
    shape: list[int]
    dtype: str
    scale: float
    zero_point: int
    axes: list[int] = []


class NamedTensor(BorderTensor):
    """One of several inputs or outputs.

    Attributes:
        name: in the file's signature; that of the network's argument, or of its entry in what the network returns.
    """

    name: str


class Parity(BaseModel):
    """Distance between simulated and deployed outputs, in steps of the output's scale."""

    model_config = _STRICT
    max: int
    mean: float
    n_outputs: int


class LayerNoise(BaseModel):
    """What one layer adds to the noise of the quantized network, see `qanas.quantization.layer_noise`.

    Attributes:
        layer: its name, as in the scheme's ``layers``.
        operator: what it computes, such as "Convolution".
        own_sqnr_db: of its output: the float layer's on the same codes over the difference to the integer one's.
        share: of the outputs' noise that goes with the layer in float; negative where that makes it more.
    """

    model_config = _STRICT
    layer: str
    operator: str
    own_sqnr_db: float
    share: float


class Bounds(BaseModel):
    """Where a score would lie on other units of the same kind."""

    model_config = _STRICT
    low: float
    high: float


class Intervals(BaseModel):
    """What is chance in the scores of the model that ships: bootstrap intervals over independent units.

    Attributes:
        unit: what is independent of what, such as an engine.
        level: of the intervals, such as 0.95.
        draws: how often units were drawn with replacement.
        units: how many there are, by split.
        deployed: by split and metric; without those that are not defined.
    """

    model_config = _STRICT
    unit: str
    level: float = Field(gt=0, lt=1)
    draws: int = Field(ge=1)
    units: dict[SplitName, int]
    deployed: dict[SplitName, dict[str, Bounds]]


class Learning(BaseModel):
    """How the training that ships went.

    Attributes:
        losses: on training data, by epoch; further ones are of quantization-aware training.
        train: metrics of the FP32 network on training samples: beside those on validation data they tell what was
            learnt by heart.
        curve: of a few epochs, the last one last, ``epoch`` and such metrics behind ``train_`` and ``val_``.
    """

    model_config = _STRICT
    losses: list[Number]
    train: dict[str, Number]
    curve: list[dict[str, Number]] = []


class Latency(BaseModel):
    """What a model takes on a device, and how that was had.

    Attributes:
        ms: milliseconds; None where none are had of the device.
        cycles: none where they aren't counted.
        instructions: likewise.
        flash_bytes: of the model as C without an interpreter; None where the device has no known core.
        ram_bytes: likewise, stack included.
        kernels: what took it, and the protocol.
    """

    model_config = _STRICT
    ms: float | None = None
    cycles: float | None = None
    instructions: float | None = None
    flash_bytes: float | None = None
    ram_bytes: float | None = None
    kernels: str

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    def figures(self) -> dict[str, float]:
        """Return what there is, as costs are called."""
        known = {"latency_ms": self.ms, "cycles": self.cycles, "instructions": self.instructions}
        known |= {"flash_bytes": self.flash_bytes, "ram_bytes": self.ram_bytes}
        return {name: value for name, value in known.items() if value is not None}


_ONE_OR_SEVERAL: list[JsonValue] = [
    {"oneOf": [{"required": [side]}, {"required": [f"{side}s"]}]} for side in ("input", "output")
]
"""Of a card's inputs and of its outputs there is one, or a list."""


_OPTIONAL = (
    "input", "output", "inputs", "outputs", "kind", "arena_bytes", "intervals", "described", "learning",
    "classes", "degenerate",
)  # fmt: skip
"""What a card's file leaves out where there is none."""


class Card(BaseModel):
    """Everything that is known of a shipped model; `models/ID/card.json`.

    Attributes:
        schema_version: of this file's format.
        candidate: the name of the model's folder.
        kind: where it comes from; not told by cards of early runs.
        config: the candidate's settings, group by group.
        task: the task's name and settings.
        protocol: how the numbers came about.
        run_seed: the run's seed.
        sha256: of model.tflite.
        files: the SHA-256 of the folder's other files, by their names; none on cards of early runs.
        input: of the model, where it has one.
        output: of the model, in the target's unit, where it has one.
        inputs: of the model, in the file's order, where it has several.
        outputs: likewise.
        preprocessing: what firmware has to do before the model.
        metrics: by precision, split and metric.
        weight_bytes: constants in the file.
        packed_weight_bytes: as papers count.
        file_bytes: size of model.tflite.
        peak_ram_bytes: working memory without the runtime's own.
        arena_bytes: with it, as firmware has to declare it; none on cards of early runs.
        macs: multiply-accumulates of one inference.
        latency_ms: what one inference takes, by device.
        parity_steps: over the validation and test outputs.
        layer_noise: where integers lose it, of the training that ships; none on cards of early runs.
        intervals: over the task's independent units; none on cards of early runs, and of tasks with one unit.
        described: what it is, in a few words; none on cards of early runs.
        learning: how its training went; none on cards of early runs.
        classes: what it answers of classes, where the task has some.
        degenerate: why it is no success, where it is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"allOf": _ONE_OR_SEVERAL})
    schema_version: Literal[1] = 1
    candidate: str
    kind: Kind | None = None
    config: dict[str, dict[str, Value]]
    task: dict[str, Any]
    protocol: dict[str, Any]
    run_seed: int
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    files: dict[str, str] = {}
    input: BorderTensor | None = None
    output: BorderTensor | None = None
    inputs: Annotated[list[NamedTensor], Field(min_length=2)] = []
    outputs: Annotated[list[NamedTensor], Field(min_length=2)] = []
    preprocessing: dict[str, Any]
    metrics: dict[Precision, dict[SplitName, dict[str, Statistic]]]
    weight_bytes: int
    packed_weight_bytes: int
    file_bytes: int
    peak_ram_bytes: int
    arena_bytes: int | None = None
    macs: int
    latency_ms: dict[str, Latency]
    parity_steps: Parity
    layer_noise: list[LayerNoise] = []
    intervals: Intervals | None = None
    described: str = ""
    learning: Learning | None = None
    classes: Classes | None = None
    degenerate: Degenerate | None = None

    @model_validator(mode="after")
    def _borders_are_there(self) -> Self:
        for side in ("input", "output"):
            alone, several = getattr(self, side), getattr(self, f"{side}s")
            if (alone is None) == (not several):
                raise ValueError(f"a card has '{side}', or '{side}s' where there are several")
        return self

    def metric(self, precision: Precision, split: SplitName, name: str) -> Statistic:
        """Return one metric."""
        return self.metrics[precision][split][name]

    def scored(self, goal: Goal, split: SplitName) -> float:
        """Return what is held against a goal: the score of the file that ships; NaN where there is none."""
        found = self.metrics.get(goal.shipped_precision, {}).get(split, {}).get(goal.metric.name)
        return found.shipped if found is not None else math.nan

    def reaches(self, goals: Iterable[Goal]) -> bool:
        """Tell whether it reaches all of some goals on validation data."""
        return all(goal.lacking(self.scored(goal, "val")) <= 0 for goal in goals)

    def costs(self) -> Mapping[str, float]:
        """Return the costs by name."""
        names = ("weight_bytes", "packed_weight_bytes", "file_bytes", "peak_ram_bytes", "arena_bytes", "macs")
        known = {name: value for name in names if (value := getattr(self, name)) is not None}
        device = next(iter(self.latency_ms.values()), None)
        figures = {} if device is None else device.figures()
        made = self.preprocessing.get("front_end")
        if isinstance(made, Mapping):  # a user's own notes may be called so, too
            known |= {name: made[name] for name in FRONT_END_COSTS if name in made}
        return {name: float(value) for name, value in known.items()} | figures

    def costs_everywhere(self) -> Mapping[str, float]:
        """Return the costs by column: with ``@`` and a device's name behind, what it takes there."""
        devices = self.latency_ms.items()
        return {f"{n}@{device}": value for device, entry in devices for n, value in entry.figures().items()} | {
            **self.costs()
        }

    def paid(self, cost: Cost) -> float:
        """Return what it costs, of a cost that it holds."""
        return self.costs_everywhere()[cost.column]

    def to_json(self) -> str:
        """Return the file's text; what there isn't is left out."""
        absent = {name for name in _OPTIONAL if not getattr(self, name)}
        return json.dumps(self.model_dump(mode="json", exclude=absent), indent=2, allow_nan=False) + "\n"


def common_cost(costs: Iterable[Cost], cards: Iterable[Card]) -> Cost:
    """Return by what one model is smaller than another.

    Args:
        costs: that were searched for, the first one first.
        cards: of the models.

    Returns:
        The first of the costs, as it ships, that all cards hold; the file's bytes where there is none.
    """
    held = [card.costs_everywhere() for card in cards]
    shipped = (replace(cost, float_=False) for cost in costs)
    return next((cost for cost in shipped if all(cost.column in known for known in held)), Cost("file_bytes"))


def sound(cards: Mapping[str, Card]) -> dict[str, Card]:
    """Return the cards of models that are a success; where none is, of those that come closest to it.

    Args:
        cards: by the models' names.
    """
    grades = {name: card.degenerate.grade if card.degenerate is not None else 0 for name, card in cards.items()}
    least = min(grades.values(), default=0)
    return {name: card for name, card in cards.items() if grades[name] == least}


def card_schema() -> dict[str, Any]:
    """Return the JSON schema of a card; ``core/card.schema.json`` holds the same."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Card.model_json_schema()}
