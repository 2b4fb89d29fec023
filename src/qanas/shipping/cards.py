"""Cards of shipped models: what they are, how they were made, and how they score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qanas.core.card import SPLITS, BorderTensor, Card, LayerNoise, Learning, NamedTensor, Parity, SplitName, Statistic
from qanas.core.measures import FRONT_END_COSTS, PRECISIONS, Precision
from qanas.deployment.firmware.folder import NO_PREPROCESSING
from qanas.deployment.litert import LiteRTModel
from qanas.hardware.costs import SHIPPED_COSTS, Blueprint
from qanas.planning.plan import Plan
from qanas.planning.scheme_sweep import scheme_choice
from qanas.quantization.border import INPUT, OUTPUT, AxisOrder, Border, Port
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.scheme import Scheme
from qanas.shipping.trainings import Finalist, Training
from qanas.training.pretrained import FileStart

Statistics = Mapping[Precision, Mapping[SplitName, Mapping[str, Statistic]]]
"""Metrics over the repetitions of a finalist, by precision, split and name."""


def statistics_of(plan: Plan, trainings: Sequence[Training], shipped: int) -> Statistics:
    """Return every metric over some trainings.

    Args:
        plan: of the run.
        trainings: that have metrics.
        shipped: the position of the one that ships.
    """
    return {
        precision: {
            split: {
                metric: Statistic.of([t.metrics[precision][split][metric] for t in trainings], shipped)
                for metric in plan.bench.task.metrics
            }
            for split in SPLITS
        }
        for precision in PRECISIONS
    }


def shipped_because(plan: Plan) -> str:
    """Return why it is this training that ships, as cards say it."""
    return f"median of the trainings by {plan.main_metric.name} (quantized, validation)"


def make_card(
    plan: Plan,
    finalist: Finalist,
    shipped: Training,
    statistics: Statistics,
    costs: Mapping[str, float],
    blueprint: Blueprint,
    content: bytes,
) -> Card:
    """Return the card of a finalist's shipped training, without latency and the digests of further files.

    Args:
        plan: of the run.
        finalist: what ships.
        shipped: the training that does.
        statistics: over all of its trainings.
        costs: by column.
        blueprint: the candidate's.
        content: of model.tflite.
    """
    bench = plan.bench
    data = bench.data_of(finalist.candidate)
    scheme = bench.scheme_of(finalist.candidate, blueprint.graph.shapes)
    model = LiteRTModel(content, border=blueprint.quantized.graph.border)
    return Card(
        candidate=finalist.identity,
        kind=finalist.kind,
        described=finalist.described or bench.describe(finalist.candidate),
        config=finalist.candidate.config,
        task=dict(plan.recipe["task"]),
        protocol=_protocol(plan, finalist, shipped, statistics, scheme),
        run_seed=bench.seed,
        sha256=shipped.sha256,
        **_border_tensors("input", model.border.inputs, model.input_shapes, model.inputs),
        **_border_tensors("output", model.border.outputs, model.output_shapes, model.outputs),
        preprocessing={**data.preprocessing, **_front_end(costs)},
        metrics={p: {s: dict(metrics) for s, metrics in splits.items()} for p, splits in statistics.items()},
        **{cost.measure.column: int(costs[cost.measure.column]) for cost in SHIPPED_COSTS},  # type: ignore[arg-type]
        latency_ms={},  # of all models at once, see `qanas.shipping.latency`
        learning=Learning(
            losses=list(shipped.losses), train=dict(shipped.train), curve=[dict(point) for point in shipped.curve]
        )
        if shipped.train
        else None,
        parity_steps=Parity(max=shipped.parity.max, mean=shipped.parity.mean, n_outputs=shipped.parity.n_outputs),
        layer_noise=[LayerNoise.model_validate(entry) for entry in shipped.noise],
    )


def _protocol(
    plan: Plan,
    finalist: Finalist,
    shipped: Training,
    statistics: Statistics,
    scheme: Scheme,
) -> dict[str, Any]:
    bench, candidate = plan.bench, finalist.candidate
    first = next(iter(statistics["deployed"]["val"].values()))
    data = bench.data_of(candidate)
    return {
        **data.protocol,
        **({} if data.preprocessing else {"preprocessing": NO_PREPROCESSING}),
        "estimation": dict(plan.recipe["estimation"]),
        **({} if finalist.start.digest else finalist.procedure.notes),
        **_pretrained(finalist),
        **({"epochs": finalist.procedure.epochs} if finalist.variant else {}),
        **({"baseline": finalist.described} if finalist.described else {}),
        "trainings": first.n,
        "shipped_training": shipped.repetition,
        "shipped_because": shipped_because(plan),
        "scored_weights": "exponential moving average over the steps, at the end of training",
        "quantization": scheme.description(),
        "scheme": plan.scheme.name,
        "scheme_chosen": scheme_choice(plan),
        "deployed": "LiteRT reference kernels, batch 1, states reset before every sample",
        "std": "sample standard deviation over the trainings (n - 1); 0 where n is 1",
        "weight_bytes": "every constant in the file: weights, biases and the indices of slices",
    }


def _pretrained(finalist: Finalist) -> dict[str, str]:
    start = finalist.start
    if not isinstance(start, FileStart):
        return {}
    return {"pretrained": f"weights of {start.path.name}, not trained here: every training is the same"}


def _border_tensors(
    side: str,
    ports: Sequence[Port],
    shapes: Mapping[str, tuple[int, ...]],
    affines: Mapping[str, Affine | None],
) -> dict[str, Any]:
    """Return the card's fields of a model's inputs or outputs: one by itself, several in a list with their names."""
    tensors: list[NamedTensor] = []
    for port in ports:
        affine = affines[port.name]
        if affine is None:
            raise TypeError("a shipped model has integer inputs and outputs")
        tensors.append(
            NamedTensor(
                name=port.name,
                shape=list(shapes[port.name]),
                dtype=f"int{affine.bits}",
                scale=affine.scale,
                zero_point=affine.zero_point,
                axes=list(port.order.axes),
            )
        )
    if len(tensors) > 1:
        return {f"{side}s": tensors}
    return {side: BorderTensor(**tensors[0].model_dump(exclude={"name"}))}


def border_of(card: Card) -> Border:
    """Return how a shipped model's inputs and outputs are called and stored."""
    return Border(_ports(card.input, card.inputs, INPUT), _ports(card.output, card.outputs, OUTPUT))


def _ports(alone: BorderTensor | None, several: Sequence[NamedTensor], usual: str) -> tuple[Port, ...]:
    if alone is not None:
        return (Port(usual, AxisOrder(tuple(alone.axes))),)
    return tuple(Port(tensor.name, AxisOrder(tuple(tensor.axes))) for tensor in several)


def _front_end(costs: Mapping[str, float]) -> dict[str, Any]:
    """Return what it costs to make the input, for the preprocessing's notes; nothing where nothing is known."""
    found = {name: int(costs[name]) for name in FRONT_END_COSTS if costs.get(name)}
    return {"front_end": found} if found else {}
