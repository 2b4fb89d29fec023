"""Estimators against full training, on a table of trained candidates: rank correlation, time, the front's worth.

    python benchmarks/estimators.py TABLE --proxies runs/proxies_fd001.json --write docs/results/estimators

Protocol: TABLE is what benchmarks/trained_table.py made (benchmarks/data/trained_fd001.csv.gz). Nothing is trained here
but models of tables. Each estimator scores every candidate; tau is Kendall's with the quantized validation metric of
full training. Its front over that and weight bytes is then "retrained": scored by a training with another seed that no
estimator has seen, also for the front of full training itself. Hypervolume is that of the metric and the logarithm of
weight bytes below the table's median and largest network, relative to full training's. Times are CPU seconds, the
table's and of what was computed here. Anchors and orders are drawn ten times; figures are means, in brackets the 2.5
and 97.5 % quantiles of the draws, or of a bootstrap over candidates where nothing is drawn.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from qanas.core.candidate import Candidate
from qanas.core.errors import TrainingFailed
from qanas.core.pareto import hypervolume, non_dominated
from qanas.core.run_folder import write_atomically
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.proxy_scores import PROXIES, proxies_of
from qanas.performance_estimation.stopping import Course, FrontChance, LearnedEnd, SizeAwareHalving, StoppingRule
from qanas.planning.plan import Plan
from qanas.regression.gaussian_process import ColumnGroup, GaussianProcess
from qanas.regression.models import MODELS, ModelName, fitted
from qanas.regression.ranking import bootstrap_interval, kendall_tau
from qanas.search_space.encoding import Encoding
from trained_table import SHORTER, table_plan

Array = NDArray[np.float64]

DRAWS = 10
ANCHORS = (15, 30)
OUT_OF_REACH = 1e9
"""What stands for the loss of a candidate that an estimator has given up."""


@dataclass(frozen=True)
class Table:
    """Candidates trained in full.

    Attributes:
        rows: one a candidate, see benchmarks/trained_table.py.
        encoding: of their settings.
        sign: -1 where more of the metric is better.
    """

    rows: pl.DataFrame
    encoding: Encoding
    sign: float

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every candidate."""
        return [Candidate(**json.loads(text)) for text in self.rows["config"]]

    @cached_property
    def full(self) -> Array:
        """Validation loss of full training, shape (n,)."""
        return self.sign * self.rows["full_val"].to_numpy()

    @cached_property
    def again(self) -> Array:
        """The same with another seed, shape (n,)."""
        return self.sign * self.rows["again_val"].cast(pl.Float64).to_numpy()

    @cached_property
    def sizes(self) -> Array:
        """Logarithms of weight bytes, shape (n,)."""
        found: Array = np.log10(self.rows["weight_bytes"].cast(pl.Float64).to_numpy())
        return found

    @cached_property
    def seconds(self) -> Array:
        """CPU seconds of each full training, shape (n,)."""
        return self.rows["full_seconds"].to_numpy()

    @cached_property
    def settings(self) -> Array:
        """The candidates encoded, shape (n, columns)."""
        return self.encoding.rows_of(self.candidates)

    @cached_property
    def curves(self) -> list[Array]:
        """Validation losses of full training, shape (epochs,) each."""
        return [self.sign * np.array(text.split(), np.float64) for text in self.rows["full_curve"]]

    @cached_property
    def training_losses(self) -> list[Array]:
        """The training losses of full training, shape (epochs,) each."""
        return [np.array(text.split(), np.float64) for text in self.rows["full_losses"]]

    def front(self, losses: Array) -> NDArray[np.intp]:
        """Return the front of losses, shape (n,), and sizes."""
        found = non_dominated(np.column_stack([losses, self.sizes]))
        return found[losses[found] < OUT_OF_REACH]

    def worth(self, front: NDArray[np.intp]) -> float:
        """Return the hypervolume of a front when it is trained anew; NaN where it wasn't, see `lacking`."""
        reference = (float(np.median(self.full)), float(self.sizes.max()))
        return hypervolume(np.column_stack([self.again, self.sizes])[front], reference)


@dataclass(frozen=True)
class Said:
    """What an estimator says in one draw.

    Attributes:
        losses: shape (n,).
        seconds: that it took.
        scored: candidates that tau is over; all where it is empty.
        share: of the epochs of full training; NaN where none are trained.
    """

    losses: Array
    seconds: float
    scored: Sequence[int] = ()
    share: float = float("nan")


Way = Callable[[Table, int], Said]


def full_training(table: Table, draw: int) -> Said:
    """Train all."""
    del draw
    return Said(table.full, float(table.seconds.sum()), share=1.0)


def short_training(table: Table, draw: int) -> Said:
    """Train all for a third of the epochs, with a schedule of their own."""
    del draw
    seconds = float(table.rows["short_seconds"].sum())
    return Said(table.sign * table.rows["short_val"].to_numpy(), seconds, share=1 / SHORTER)


def first_epochs(epochs: int) -> Way:
    """Look at the curves of full training after some epochs."""

    def way(table: Table, draw: int) -> Said:
        del draw
        curves = table.curves
        share = epochs / len(curves[0])
        return Said(np.array([curve[epochs - 1] for curve in curves]), share * float(table.seconds.sum()), share=share)

    return way


def summed_losses(epochs: int, last: int) -> Way:
    """Add up training losses (SoTL-E); ranks are within each kind of loss, which alone compare."""

    def way(table: Table, draw: int) -> Said:
        del draw
        curves = table.training_losses
        kinds = np.array([str(candidate.training["loss"]) for candidate in table.candidates])
        sums = np.array([curve[epochs - last : epochs].mean() for curve in curves])
        ranks = np.empty(len(sums))
        for kind in np.unique(kinds):
            of_kind = np.flatnonzero(kinds == kind)
            ranks[of_kind] = np.argsort(np.argsort(sums[of_kind])) / len(of_kind)
        share = epochs / len(curves[0])
        return Said(ranks, share * float(table.seconds.sum()), share=share)

    return way


def learned(table: Table, draw: int) -> Said:
    """Replay what learns from finished trainings."""
    return stopped(LearnedEnd(table.encoding.groups))(table, draw)


def stopped(rule: StoppingRule) -> Way:
    """Replay a rule over the curves, in an order that is drawn."""

    def way(table: Table, draw: int) -> Said:
        curves, sizes, settings = table.curves, 10**table.sizes, table.settings
        order = np.random.default_rng(derive_seed(draw, "order")).permutation(len(curves))
        others: list[Course] = []
        losses = np.full(len(curves), OUT_OF_REACH)
        epochs = np.zeros(len(curves))
        for place in order.tolist():
            total = len(curves[place])
            looked: dict[int, float] = {}
            ended = total
            for epoch in rule.looks(total):
                looked[epoch] = float(curves[place][epoch - 1])
                if not rule.goes_on(Course(float(sizes[place]), looked, settings=settings[place]), others, total):
                    ended = epoch
                    break
            epochs[place] = ended / total
            last = float(curves[place][ended - 1])
            others.append(Course(float(sizes[place]), looked, last, ended < total, settings[place]))
            losses[place] = table.full[place] if ended == total else last
        return Said(losses, float((epochs * table.seconds).sum()), share=float(epochs.mean()))

    return way


def predicted(model: ModelName, anchors: int, *, costs: bool) -> Way:
    """Fit a model to random anchors, and predict the others."""

    def way(table: Table, draw: int) -> Said:
        started = time.process_time()
        rows = table.settings
        groups = list(table.encoding.groups)
        if costs:
            macs = np.log10(table.rows["macs"].cast(pl.Float64).to_numpy())
            groups += [ColumnGroup([rows.shape[1]], 1), ColumnGroup([rows.shape[1] + 1], 1)]
            rows = np.column_stack([rows, table.sizes / 4, macs / 4])
        order = np.random.default_rng(derive_seed(draw, "anchors")).permutation(len(rows))
        chosen, others = order[:anchors], order[anchors:]
        losses = table.full.copy()
        losses[others] = fitted(model, groups, rows[chosen], table.full[chosen]).predict(rows[others])
        seconds = float(table.seconds[chosen].sum()) + time.process_time() - started
        return Said(losses, seconds, others.tolist(), anchors / len(rows))

    return way


ROUNDS = 4


def predicted_in_rounds(anchors: int, *, front: bool) -> Way:
    """Choose anchors in four rounds: of each later one half where a process knows least, half where it expects most.

    Args:
        anchors: that are trained.
        front: what is expected of a front of predictions and sizes; else the lowest predictions.
    """

    def way(table: Table, draw: int) -> Said:
        started = time.process_time()
        rows = table.settings
        groups = list(table.encoding.groups)
        generator = np.random.default_rng(derive_seed(draw, "anchors"))
        chosen = generator.permutation(len(rows))[: anchors // ROUNDS].tolist()
        for number in range(2, ROUNDS + 1):
            wanted = anchors * number // ROUNDS - len(chosen)
            process = GaussianProcess(groups, rows[chosen], table.full[chosen])
            mean, sd = process.predict(rows)
            mean[chosen] = table.full[chosen]
            others = np.setdiff1d(np.arange(len(rows)), chosen)
            unknown = others[np.argsort(-sd[others], kind="stable")[: wanted // 2]].tolist()
            left = np.setdiff1d(others, unknown)
            layers: list[int] = []
            while front and len(layers) < wanted - len(unknown):  # the front, then what is behind it
                rest = np.setdiff1d(left, layers)
                layers += rest[non_dominated(np.column_stack([mean, table.sizes])[rest])].tolist()
            best = layers or left[np.argsort(mean[left], kind="stable")].tolist()
            chosen += unknown + best[: wanted - len(unknown)]
        others = np.setdiff1d(np.arange(len(rows)), chosen)
        losses = table.full.copy()
        losses[others] = GaussianProcess(groups, rows[chosen], table.full[chosen]).predict(rows[others])[0]
        seconds = float(table.seconds[chosen].sum()) + time.process_time() - started
        return Said(losses, seconds, others.tolist(), anchors / len(rows))

    return way


def proxy(values: Sequence[float], seconds: float) -> Way:
    """Take a proxy; more is better."""

    def way(table: Table, draw: int) -> Said:
        del table, draw
        return Said(-np.array(values), seconds)

    return way


def ways(proxies: Mapping[str, Any], epochs: int, numbers: Sequence[int]) -> dict[str, tuple[Way, bool]]:
    """Return every estimator by name, and whether something is drawn, for full trainings of so many epochs."""
    early, late = max(epochs // 10, 1), epochs // SHORTER
    found: dict[str, tuple[Way, bool]] = {
        "full training": (full_training, False),
        f"training, {late} epochs": (short_training, False),
        f"full training, looked at after {early} epochs": (first_epochs(early), False),
        f"full training, looked at after {late} epochs": (first_epochs(late), False),
        f"early_stopping, rungs {early}, {late}": (stopped(SizeAwareHalving((early, late))), True),
        "early_stopping, all sizes alike": (stopped(SizeAwareHalving((early, late), larger=1e9)), True),
        "learning_curve, extrapolation": (stopped(FrontChance()), True),
        "learning_curve, learned": (learned, True),
        f"learning_curve, sotl, {late} epochs": (summed_losses(late, (late + 1) // 2), False),
    }
    for anchors in numbers:
        for model in MODELS:
            found[f"predictor, {model}, {anchors} anchors"] = (predicted(model, anchors, costs=False), True)
        found[f"predictor, gaussian_process with costs, {anchors} anchors"] = (
            predicted("gaussian_process", anchors, costs=True), True,
        )  # fmt: skip
        found[f"predictor, {anchors} anchors in rounds by the metric"] = (
            predicted_in_rounds(anchors, front=False),
            True,
        )
        found[f"predictor, {anchors} anchors in rounds by the front"] = (predicted_in_rounds(anchors, front=True), True)
    for name, kept in proxies.items():
        if all(value is not None for value in kept["values"]):
            found[f"proxies, {name}"] = (proxy(kept["values"], kept["seconds"]), False)
    return found


def figures(table: Table, way: Way, *, drawn: bool) -> dict[str, Any]:
    """Return what one estimator is worth."""
    said = [way(table, draw) for draw in range(DRAWS if drawn else 1)]
    fronts = [table.front(each.losses) for each in said]
    taus = []
    for each in said:
        scored = np.array(each.scored or range(len(each.losses)))
        taus.append(kendall_tau(each.losses[scored], table.full[scored]))
    all_of_it = float(table.seconds.sum())
    after = [0.0 if way is full_training else float(table.seconds[front].sum()) for front in fronts]
    volumes = [table.worth(front) / table.worth(table.front(table.full)) for front in fronts]
    totals = [each.seconds + more for each, more in zip(said, after, strict=True)]
    interval = tuple(np.quantile(taus, [0.025, 0.975])) if drawn else bootstrap_interval(said[0].losses, table.full)
    return {
        "search_seconds": float(np.mean([each.seconds for each in said])),
        "search_speed_up": all_of_it / float(np.mean([each.seconds for each in said])),
        "training_seconds": float(np.mean(after)),
        "overall_speed_up": all_of_it / float(np.mean(totals)),
        "epochs": float(np.mean([each.share for each in said])),
        "tau": float(np.mean(taus)),
        "tau_interval": [float(value) for value in interval],
        "front": float(np.mean([len(front) for front in fronts])),
        "hypervolume": float(np.mean(volumes)),
        "hypervolume_interval": [float(value) for value in np.quantile(volumes, [0.025, 0.975])],
    }


def proxies_kept(path: Path, table: Table, bench: Bench) -> dict[str, Any]:
    """Return proxies of every candidate, with the CPU seconds of each; computed where they aren't there."""
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for name in PROXIES:
        if len(kept.get(name, {}).get("values", ())) != len(table.candidates):
            started = time.process_time()
            values: list[float | None] = []
            for candidate in table.candidates:
                try:
                    values.append(proxies_of(bench, candidate, [name])[name])
                except TrainingFailed as error:
                    print(f"{name}: {error}", flush=True)
                    values.append(None)
                    break
            values += [None] * (len(table.candidates) - len(values))
            kept[name] = {"values": values, "seconds": time.process_time() - started}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(kept).encode())
    return kept


def read_table(path: Path, plan: Plan, *, every: bool) -> Table:
    """Read a table; candidates that lack a training are left out, or, with ``every``, those that lack the first."""
    rows = pl.read_csv(path).drop_nulls(["full_val"] if every else ["full_val", "again_val", "short_val"])
    return Table(rows, Encoding.of(plan.bench.space), plan.main_metric.loss(1.0))


def lacking(table: Table, known: Mapping[str, tuple[Way, bool]]) -> list[int]:
    """Return the numbers of candidates that are on a front of any way and draw, and weren't trained a second time."""
    places = set[int]()
    for way, drawn in known.values():
        for draw in range(DRAWS if drawn else 1):
            places |= set(table.front(way(table, draw).losses).tolist())
    numbers = table.rows["number"].to_list()
    return sorted(numbers[place] for place in places if not np.isfinite(table.again[place]))


MANY, MANY_ANCHORS, COSTED = 10_000, 30, 50


def many(table: Table, bench: Bench) -> dict[str, float]:
    """Return what it takes to predict many candidates, CPU seconds and the process's peak memory; and to cost some."""
    groups = list(table.encoding.groups)
    model = fitted("gaussian_process", groups, table.settings[:MANY_ANCHORS], table.full[:MANY_ANCHORS])
    generator = np.random.default_rng(0)
    started = time.process_time()
    candidates = [bench.space.random(generator) for _ in range(MANY)]
    drawn = time.process_time()
    model.predict(table.encoding.rows_of(candidates))
    predicted_at = time.process_time()
    for candidate in candidates[:COSTED]:
        bench.costs_of(candidate)
    return {
        "candidates": MANY,
        "drawing_seconds": drawn - started,
        "predicting_seconds": predicted_at - drawn,
        "costing_seconds_each": (time.process_time() - predicted_at) / COSTED,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def main() -> None:
    """Hold every estimator against the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--proxies", type=Path)
    parser.add_argument("--recipe", type=Path, help="of the table; FD001's if left out")
    parser.add_argument("--anchors", type=int, nargs="+", default=ANCHORS)
    parser.add_argument("--every", action="store_true", help="take candidates that were trained once, too")
    parser.add_argument("--lacking", type=Path, help="write which of these are on a front, for trained_table.py --only")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    plan = table_plan(arguments.recipe)
    table = read_table(arguments.table, plan, every=arguments.every)
    proxies = proxies_kept(arguments.proxies, table, plan.bench) if arguments.proxies else {}
    known = ways(proxies, plan.estimator.procedure.epochs, arguments.anchors)
    if table.rows["short_val"].null_count():
        known = {name: way for name, way in known.items() if way[0] is not short_training}
    if arguments.lacking is not None:
        arguments.lacking.write_text("\n".join(map(str, lacking(table, known))), "utf-8")
        return
    twice = np.flatnonzero(np.isfinite(table.again))
    full, again = table.full[twice], table.again[twice]
    found: dict[str, Any] = {
        "candidates": len(table.candidates),
        "trained_twice": len(twice),
        "tau_of_two_seeds": [kendall_tau(full, again), *bootstrap_interval(full, again)],
    }
    found["estimators"] = {name: figures(table, way, drawn=drawn) for name, (way, drawn) in known.items()}
    found["many"] = many(table, plan.bench)
    if arguments.write is not None:
        arguments.write.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(found["many"])
    two = found["tau_of_two_seeds"]
    print(f"{found['candidates']} candidates; tau of two seeds {two[0]:.2f} ({two[1]:.2f} to {two[2]:.2f})\n")
    columns = ("estimator", "search, CPU s", "speed-up", "training of its front, s", "overall speed-up", "tau", "front",
               "hypervolume")  # fmt: skip
    print(f"| {' | '.join(columns)} |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, row in found["estimators"].items():
        tau = "{:.2f} ({:.2f} to {:.2f})".format(row["tau"], *row["tau_interval"])
        volume = "{:.3f} ({:.3f} to {:.3f})".format(row["hypervolume"], *row["hypervolume_interval"])
        print(
            f"| {name} | {row['search_seconds']:.1f} | {row['search_speed_up']:.1f} | {row['training_seconds']:.0f} | "
            f"{row['overall_speed_up']:.1f} | {tau} | {row['front']:.1f} | {volume} |"
        )


if __name__ == "__main__":
    main()
