"""How well each score ranks networks as their quantized metric does once they are trained.

    python benchmarks/ranked_networks.py runs/camvid_s0
    python benchmarks/ranking.py runs/camvid_s0 --shared runs/camvid_spos runs/camvid_fairnas
    python benchmarks/ranking.py runs/camvid_s0 --known docs/results/ranking.json --shared runs/camvid_fairnas

Networks and their trainings are those of `ranked_networks.py`. Scores are of every network's own rows, over all
validation images, whether a race left these rows or not; `--shared` are finished runs of `weight_sharing`. What
fitting to retrained networks gains is told by `fitted_scores.py`. `assembled` is no sum over blocks: the metric of the
network with its distilled blocks between the teacher's stem and head, quantized, before any training. A second table,
of the scores that tables have, has each training twice more: its weights rounded to 4 bits in every block, and to bits
drawn for each. Kendall's tau, its bootstrap interval over trainings. Scores lie in the run's `ranking.json`; `--write`
takes the name of a result, and `--known` one that was written: what it tells of the same networks, trainings and
scores, isn't done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from blockwise_control_kinds import FinishedRun
from blockwise_controls import opened
from qanas.core.candidate import Candidate
from qanas.core.card import SplitName
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.block_table.files import FeatureFolders, blocks_of
from qanas.performance_estimation.block_table.layers import Bits, BlockLayers, Row
from qanas.performance_estimation.block_table.replaced import ReplacedUnit
from qanas.performance_estimation.block_table.table import TableBuilder, TableSettings
from qanas.performance_estimation.procedure import TrainedNetwork
from qanas.performance_estimation.weight_sharing import SharedWeights
from qanas.recipe import load_plan
from qanas.regression.ranking import bootstrap_interval, kendall_tau
from qanas.reporting.live import LiveDisplay
from qanas.search_space.start import Proposal
from qanas.supernet.block_supernet import BlockSupernet
from qanas.supernet.teacher_features import BlockFeatures
from qanas.training.trainer import refresh_batch_norms
from qanas.workflows.stages import RunStages
from ranked_networks import ranked, unit_of

Floats = NDArray[np.float64]

REPLACED_SAMPLES = 128


class Scores:
    """Scores of a run's networks, kept in a file.

    Args:
        run: finished.
        networks: that are ranked.
        told: scores that a result tells already.
    """

    def __init__(self, run: FinishedRun, networks: Sequence[Candidate], told: Mapping[str, Mapping[str, Any]]) -> None:
        """Read what is known."""
        self.run, self.networks = run, networks
        self._path = run.folder.path / "ranking.json"
        own = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.known: dict[str, dict[str, Any]] = {
            name: {**told.get(name, {}), **own.get(name, {})} for name in told.keys() | own.keys()
        }

    def of(self, name: str, score: Callable[[list[Candidate]], Mapping[str, Any]]) -> dict[str, Any]:
        """Return a score by network's key; those that lack it are scored and kept."""
        found = self.known.setdefault(name, {})
        lacking = [candidate for candidate in self.networks if candidate.key not in found]
        if lacking:
            print(f"{name}: {len(lacking)} networks", flush=True)
            found.update(score(lacking))
            write_atomically(self._path, f"{json.dumps(self.known, indent=1)}\n".encode())
        return {candidate.key: found[candidate.key] for candidate in self.networks}


def rows_by_block(run: FinishedRun, candidates: Sequence[Candidate]) -> list[list[Row]]:
    """Return the rows of every block that networks are made of, each once."""
    rows = [rows_of(run, candidate) for candidate in candidates]
    return [list(dict.fromkeys(own)) for own in zip(*rows, strict=True)]


def rows_of(run: FinishedRun, candidate: Candidate) -> list[Row]:
    """Return the row of each block that a network is made of, whether a table has it or not."""
    return [
        Row(cast("Bits", block.bits_of(candidate.quantization)), block.path_of(candidate.architecture))
        for block in blocks_of(run.plan.bench)
    ]


def by_network(
    run: FinishedRun, candidates: Sequence[Candidate], values: Sequence[Mapping[Row, float]]
) -> dict[str, list[float]]:
    """Return the values of every network's rows, block by block, by its key."""
    return {
        candidate.key: [float(own[row]) for own, row in zip(values, rows_of(run, candidate), strict=True)]
        for candidate in candidates
    }


def features_of_run(run: FinishedRun) -> FeatureFolders:
    """Return where the teacher's features lie: the newest ones, where another version of qanas left some as well."""
    homes = {path.parent for path in (run.folder.path / "features").rglob("train")}
    home = max(homes, key=lambda path: (path / "train").stat().st_mtime)
    return FeatureFolders(home / "train", home / "held_out")


def ratios(run: FinishedRun, candidates: Sequence[Candidate]) -> dict[str, list[float]]:
    """Return the noise-to-signal ratio of each of a network's blocks over all validation images."""
    features, bench = features_of_run(run), run.plan.bench
    values: list[dict[Row, float]] = []
    for block, rows in enumerate(rows_by_block(run, candidates)):
        train, held_out = (BlockFeatures.mapped(f, block) for f in (features.train, features.held_out))
        supernet = BlockSupernet(blocks_of(bench)[block])
        supernet.load_state_dict(load_file(run.scored.files[block].supernets[0].path))
        layers = BlockLayers.of(supernet.eval(), tuple(train.inputs.shape[1:]), bench.scheme)
        bits = tuple(sorted({width for row in rows for width in row.bits}))
        made = TableBuilder([layers], train, held_out, TableSettings(bits), 0)
        values.append(dict(zip(rows, made.exact_scores(rows).mean(axis=1).tolist(), strict=True)))
    return by_network(run, candidates, values)


def replaced(run: FinishedRun, candidates: Sequence[Candidate]) -> dict[str, list[float]]:
    """Return what each of a network's blocks alone, in the quantized teacher, adds to its loss on training samples."""
    features, scored = features_of_run(run), run.scored
    values: list[dict[Row, float]] = []
    for block, rows in enumerate(rows_by_block(run, candidates)):
        files = scored.files[block]
        unit = ReplacedUnit(files.replaced, scored.procedure, block, files, features, scored.teacher, REPLACED_SAMPLES)
        losses = unit.losses(run.plan.bench, rows, lambda _: True)
        values.append(dict(zip(rows, losses.tolist(), strict=True)))
    return by_network(run, candidates, values)


def assembled(run: FinishedRun, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the quantized metric of networks with distilled blocks, not trained, on validation data."""
    bench, found = run.plan.bench, {}
    procedure = run.scored.procedure.with_settings(qat_epochs=0)
    for candidate in candidates:
        network = bench.build(candidate, 0, run.scored.finalist_start(bench, candidate, "distilled"))
        refresh_batch_norms(network, bench.training_set(candidate, 0), most=REPLACED_SAMPLES)
        network.eval()
        made = TrainedNetwork(network, procedure.quantize(bench, candidate, network, 0), 0.0)
        scores = made.evaluate(bench.task_of(candidate), bench.data_of(candidate).val)
        found[candidate.key] = -scores[run.plan.main_metric.column]
    return found


def with_bits(run: FinishedRun, candidate: Candidate, number: int) -> list[Candidate]:
    """Return a network with 4 bits in every block, and with bits drawn for each block."""
    generator = np.random.default_rng(derive_seed(run.plan.bench.seed, "bits of ranked network", number))
    blocks = blocks_of(run.plan.bench)
    found = []
    for bits in ([4] * len(blocks), generator.choice([4, 6, 8], len(blocks)).tolist()):
        quantization = dict(candidate.quantization)
        for block, own in zip(blocks, bits, strict=True):
            quantization |= block.quantization(int(own))
        found.append(replace(candidate, quantization=quantization))
    return found


def rounded(
    run: FinishedRun, candidate: Candidate, weights: Path, splits: Sequence[SplitName] = ("val", "test")
) -> dict[str, float]:
    """Return the quantized metric of a network with weights that were trained before."""
    bench, metric = run.plan.bench, run.plan.main_metric
    network = bench.build(candidate, 0)
    network.load_state_dict(load_file(weights))
    procedure = run.plan.finalists.procedure.with_settings(qat_epochs=0)
    made = TrainedNetwork(network.eval(), procedure.quantize(bench, candidate, network.eval(), 0), 0.0)
    data, task = bench.data_of(candidate), bench.task_of(candidate)
    return {split: made.evaluate(task, getattr(data, split))[metric.column] for split in splits}


def shared(folder: Path, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return the quantized metric of networks with the weights of a finished run's supernet."""
    plan = load_plan(RunFolder(folder).recipe)
    plan.check()
    with LiveDisplay() as display:
        estimator = plan.estimator.prepare(plan.bench, RunStages(plan, RunFolder(folder), display), plan.measures)
    estimator = cast("SharedWeights", estimator)
    axis = next(measure for measure in plan.axes if measure.column.startswith("shared_"))
    found = {}
    for candidate in candidates:
        own = replace(candidate, training=plan.bench.reference.training)
        estimate = estimator.estimate(plan.bench, Proposal(own), 0, (), lambda _: True)
        found[candidate.key] = -estimate.scores[axis.column]
    return found


def ratio_scores(scores: Scores) -> dict[str, Floats]:
    """Return the sums of ratios of the networks and of their logarithms, shape (networks,), lower is better."""
    by_key = scores.of("nsr", lambda c: ratios(scores.run, c))
    shares = np.array([by_key[candidate.key] for candidate in scores.networks])
    return {"nsr_sum": shares.sum(axis=1), "nsr_log_sum": np.log(shares).sum(axis=1)}


def measured_scores(scores: Scores, shared_runs: Sequence[Path]) -> dict[str, Floats]:
    """Return the scores for which networks are put together and run, shape (networks,), lower is better."""
    run, networks = scores.run, scores.networks
    shares = scores.of("replace", lambda c: replaced(run, c))
    found: dict[str, Floats] = {"replace_one": np.array([sum(shares[candidate.key]) for candidate in networks])}
    assembled_scores = scores.of("assembled", lambda c: assembled(run, c))
    found["assembled, not additive"] = np.array([assembled_scores[candidate.key] for candidate in networks])
    for folder in shared_runs:
        by_key = scores.of(folder.name, lambda c, folder=folder: shared(folder, c))  # type: ignore[misc]
        found[folder.name] = np.array([by_key[candidate.key] for candidate in networks])
    return found


def costs(scores: Scores) -> dict[str, Floats]:
    """Return what networks cost as if it were a score, shape (networks,), lower is better."""
    each = [scores.run.plan.bench.costs_of(candidate) for candidate in scores.networks]
    return {
        f"{name}, more is better": -np.array([cost[name] for cost in each]) for name in ("packed_weight_bytes", "macs")
    }


def tau(score: Floats, metric: Floats, groups: NDArray[np.intp]) -> str:
    """Return Kendall's tau of a score, lower is better, with a metric, and its bootstrap interval over groups.

    Args:
        score: shape (networks,).
        metric: shape (networks,).
        groups: which networks were one training, shape (networks,): those are drawn together.
    """
    low, high = bootstrap_interval(-score, metric, groups=groups)
    return f"{kendall_tau(-score, metric):.2f} ({low:.2f} to {high:.2f})"


def table(found: Mapping[str, Floats], metrics: Mapping[str, Floats], groups: NDArray[np.intp]) -> list[str]:
    """Return a table: tau of each score with each metric."""
    lines = [f"| score | {' | '.join(metrics)} |", f"|---|{'---:|' * len(metrics)}"]
    for name, score in found.items():
        lines.append(f"| {name} | {' | '.join(tau(score, metric, groups) for metric in metrics.values())} |")
    return lines


def main() -> None:
    """Print the table, and write it with all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--shared", type=Path, nargs="*", default=[])
    parser.add_argument("--known", type=Path, help="a result whose trainings and scores are taken over")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    known = json.loads(arguments.known.read_text("utf-8")) if arguments.known else {"trainings": {}, "scores": {}}
    torch.set_num_threads(1)
    run = opened(arguments.run, 1)
    name = run.plan.main_metric.name
    every = ranked(run, arguments.networks)

    splits: tuple[SplitName, ...] = ("val", "test")

    def finished(repetition: int) -> dict[str, dict[str, float]]:
        units = {candidate.key: unit_of(run, candidate, arguments.epochs, repetition) for candidate in every}
        found = {key: told[repetition] for key, told in known["trainings"].items() if repetition < len(told)}
        for key, unit in units.items():
            if (training := unit.files.read()) is not None:
                found[key] = {split: training.metrics["quantized"][split][name] for split in splits}
        return {key: found[key] for key in units if key in found}

    trainings, second = finished(0), finished(1)
    networks = [candidate for candidate in every if candidate.key in trainings]
    alone = np.arange(len(networks))
    metrics: dict[str, Floats] = {
        split: np.array([trainings[candidate.key][split] for candidate in networks]) for split in splits
    }
    both = np.array(
        [[of[key][split] for of in (trainings, second) for split in splits] for key in second.keys() & trainings.keys()]
    ).reshape(-1, 4)
    noise = {
        split: float(np.sqrt(np.mean((both[:, place] - both[:, place + 2]) ** 2) / 2))
        for place, split in enumerate(splits)
        if len(both)
    }
    spread = {split: float(values.std(ddof=1)) for split, values in metrics.items()}
    scores = Scores(run, networks, known["scores"])
    every_score = {**ratio_scores(scores), **measured_scores(scores, arguments.shared), **costs(scores)}
    lines = table(every_score, metrics, alone)
    print("\n".join(lines))
    print("of val with test:", tau(-metrics["val"], metrics["test"], alone), "noise:", noise, "spread:", spread)

    # The same trainings with fewer bits, rounded after training.
    fewer = {c.key: with_bits(run, c, number) for number, c in enumerate(networks)}
    groups = np.concatenate([alone, np.repeat(alone, 2)])
    mixed = [*networks, *(other for c in networks for other in fewer[c.key])]
    files = {o.key: unit_of(run, c, arguments.epochs, 0).files.weights for c in networks for o in fewer[c.key]}
    measured = Scores(run, mixed[len(networks) :], known["scores"]).of(
        "rounded", lambda some: {c.key: rounded(run, c, files[c.key]) for c in some}
    )
    of_bits: dict[str, Floats] = {
        split: np.concatenate([metrics[split], [measured[c.key][split] for c in mixed[len(networks) :]]])
        for split in splits
    }
    scores = Scores(run, mixed, known["scores"])
    more = table({**ratio_scores(scores), **costs(scores)}, of_bits, groups)
    print("\n".join(more))
    print("of val with test:", tau(-of_bits["val"], of_bits["test"], groups))
    if arguments.write is not None:
        content = {
            "epochs": arguments.epochs,
            "noise_of_a_training": noise,
            "trained_twice": len(both),
            "spread_of_networks": spread,
            "networks": len(networks),
            "table": lines,
            "val_with_test": tau(-metrics["val"], metrics["test"], alone),
            "table_with_fewer_bits": more,
            "val_with_test_with_fewer_bits": tau(-of_bits["val"], of_bits["test"], groups),
            "scores": scores.known,
            "trainings": {
                key: [training, *([second[key]] if key in second else [])] for key, training in trainings.items()
            },
            "metrics": {c.key: [float(of_bits[split][place]) for split in splits] for place, c in enumerate(mixed)},
        }
        arguments.write.with_suffix(".json").write_text(f"{json.dumps(content, indent=1)}\n", "utf-8")


if __name__ == "__main__":
    main()
