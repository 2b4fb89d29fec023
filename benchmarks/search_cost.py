"""What a front costs: qanas against plain Optuna and torch, in CPU time to networks that are as good when trained anew.

    python benchmarks/search_cost.py runs/search_cost --seeds 3
    python benchmarks/search_cost.py runs/search_cost --seeds 3 --write docs/results/search_cost

Protocol: C-MAPSS FD001, every third window of the training engines, all windows of the validation engines. One side is
what a competent user writes: Optuna's multivariate TPE, 100 trials of `nn.LSTM` layers, 30 epochs each, one thread, two
objectives (MAE on validation windows after the last epoch, number of parameters). The other is
benchmarks/search_cost.toml with the same ranges: `size_aware` with `learning_curve`, `method = "learned"`, scored as
quantized, its reference among its trials. Every network of a front, of both sides by the same procedure (30 epochs,
INT8), is trained anew three times with seeds that no search has seen, written as .tflite and scored in LiteRT. A front
is worth the hypervolume of these means and the logarithm of weight bytes, below `WORST`. The ratio is qanas' CPU time
until its front is worth what the other side's is at its end, over that side's CPU time; its front is looked at every
five trials, the other side's at its end alone: what that side's had been worth before isn't asked. Everything but these
last trainings counts: sampling, costing, training, scoring. Trials and trainings are kept; the script goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.errors import TrainingFailed
from qanas.core.pareto import hypervolume, non_dominated
from qanas.core.run_folder import RunFolder, write_atomically
from qanas.core.seeds import derive_seed
from qanas.core.trials import front_of
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.performance_estimation.scoring import metrics_of
from qanas.planning.plan import Plan
from qanas.recipe import load_plan
from qanas.reporting.live import LiveDisplay
from qanas.search_space.start import RANDOM
from qanas.tasks.resampling import Interval, interval_of
from qanas.tasks.samples import Split
from qanas.workflows.search import Search

RECIPE = Path(__file__).with_suffix(".toml")
EPOCHS, TRIALS, AT_ONCE, FRESH = 30, 100, 5, 3
CAP = 125.0
"""Cycles; what both sides divide targets by."""

WORST = (20.0, 4.5)
"""MAE, and the logarithm of the weight bytes, below which volumes are counted: 31.6 kB; no front has a point beyond."""


class PlainLSTM(nn.Module):
    """LSTM layers of individual width and a linear head on the last step, as one writes it."""

    def __init__(self, features: int, units: Sequence[int]) -> None:
        """Create the layers."""
        super().__init__()
        widths = [features, *units]
        pairs = zip(widths, units, strict=False)
        self.layers = nn.ModuleList(nn.LSTM(width, size, batch_first=True) for width, size in pairs)
        self.head = nn.Linear(units[-1], 1)

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, time, features) to (batch, 1)."""
        for layer in self.layers:
            values, _ = layer(values)
        found: Tensor = self.head(values[:, -1])
        return found


def chosen(trial: optuna.Trial) -> dict[str, dict[str, Any]]:
    """Return a trial's settings, from the ranges of the recipe's space."""
    layers = trial.suggest_int("layers", 1, 3)
    return {
        "architecture": {
            "layers": layers,
            **{f"units_{n}": trial.suggest_int(f"units_{n}", 1, 64, log=True) for n in range(1, layers + 1)},
        },
        "training": {
            "learning_rate": trial.suggest_float("learning_rate", 2.5e-4, 1e-1, log=True),
            "optimizer": trial.suggest_categorical("optimizer", ["rmsprop", "adam"]),
            "scheduler": trial.suggest_categorical("scheduler", ["none", "cosine", "exponential"]),
            "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
            "loss": trial.suggest_categorical("loss", ["mae", "mse", "huber"]),
            "gradient_clip": trial.suggest_float("gradient_clip", 0.1, 10.0, log=True),
        },
    }


LOSSES = {"mae": nn.L1Loss, "mse": nn.MSELoss, "huber": nn.HuberLoss}


def scheduler_of(kind: str, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return how the learning rate falls, over all steps."""
    schedulers = torch.optim.lr_scheduler
    if kind == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, steps)
    return schedulers.ExponentialLR(optimizer, 1.0 if kind == "none" else 0.01 ** (1 / steps))


def plain_training(settings: Mapping[str, Mapping[str, Any]], train: Split, val: Split) -> tuple[float, int]:
    """Train one network as a script does; return its validation MAE in cycles and its parameters."""
    architecture, training = settings["architecture"], settings["training"]
    inputs, targets = torch.from_numpy(train.inputs[:]), torch.from_numpy(train.targets) / CAP
    units = [architecture[f"units_{n}"] for n in range(1, architecture["layers"] + 1)]
    network = PlainLSTM(inputs.shape[-1], units)
    kinds = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    optimizer = kinds[training["optimizer"]](network.parameters(), lr=training["learning_rate"])
    batch = training["batch_size"]
    scheduler = scheduler_of(training["scheduler"], optimizer, EPOCHS * -(-len(inputs) // batch))
    measured = LOSSES[training["loss"]]()
    for _ in range(EPOCHS):
        for indices in torch.split(torch.randperm(len(inputs)), batch):
            optimizer.zero_grad()
            loss = measured(network(inputs[indices]), targets[indices])
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), training["gradient_clip"])
            optimizer.step()
            scheduler.step()
    network.eval()
    with torch.no_grad():
        said = CAP * network(torch.from_numpy(val.inputs[:])).numpy()
    # A layer's second bias is redundant: a user who counts parameters for a device leaves it out.
    parameters = sum(p.numel() for name, p in network.named_parameters() if "bias_hh" not in name)
    return float(np.abs(said - val.targets).mean()), parameters


@dataclass(frozen=True)
class Step:
    """A front, and what it took.

    Attributes:
        trials: so far.
        seconds: of CPU time so far.
        front: its networks.
    """

    trials: int
    seconds: float
    front: Sequence[Candidate]


def plain(folder: Path, plan: Plan, seed: int) -> Step:
    """Return the other side's front at its end; its trials are kept."""
    study = optuna.create_study(
        storage=f"sqlite:///{folder / f'plain-{seed}.db'}",
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed),
        study_name="plain",
        directions=["minimize", "minimize"],
        load_if_exists=True,
    )
    data = plan.bench.data_of(plan.bench.space.reference)
    while len(done := study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))) < TRIALS:
        started = time.process_time()
        trial = study.ask()
        torch.manual_seed(derive_seed(seed, "plain", trial.number))
        settings = chosen(trial)
        mae, parameters = plain_training(settings, data.train, data.val)
        trial.set_user_attr("settings", settings)
        trial.set_user_attr("seconds", time.process_time() - started)
        # A network whose numbers overflowed is as bad as one can be.
        study.tell(trial, [mae if np.isfinite(mae) else CAP, parameters])
        print(f"plain, seed {seed}, trial {trial.number}: {mae:.2f}, {parameters} parameters", flush=True)
    front = non_dominated(np.array([trial.values for trial in done]))
    networks = [Candidate(**done[n].user_attrs["settings"], quantization={"weight_bits": 8}) for n in front.tolist()]
    return Step(len(done), sum(trial.user_attrs["seconds"] for trial in done), networks)


class Timed(LiveDisplay):
    """Keeps the CPU seconds that passed until each trial's end since the one before."""

    def __init__(self, path: Path) -> None:
        """Begin to count."""
        super().__init__()
        self.path, self.since = path, time.process_time()

    def trial_finished(self, index: int, outcome: str, values: Mapping[str, float] | None, reason: str) -> None:
        """Write a line."""
        now = time.process_time()
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([index, now - self.since]) + "\n")
        self.since = now
        super().trial_finished(index, outcome, values, reason)


def ours(folder: Path, seed: int) -> list[Step]:
    """Return our fronts of a seed, every `AT_ONCE` trials; what is written after a search's end is not counted."""
    run, times = RunFolder(folder / f"ours-{seed}"), folder / f"ours-{seed}.jsonl"
    plan = load_plan(RECIPE, [f"strategy.trials={TRIALS}", f"run.seed={seed}"])
    plan.check()
    run.path.mkdir(parents=True, exist_ok=True)
    with Timed(times) as display:
        search = Search(plan, run, display)
        if len(search.store.records) < TRIALS:
            search.run()
    seconds = np.zeros(TRIALS)
    for line in times.read_text("utf-8").splitlines():
        index, taken = json.loads(line)
        seconds[index] += taken
    return [
        Step(
            trials,
            float(seconds[:trials].sum()),
            [record.candidate for record in front_of(search.records[:trials], plan.axes)],
        )
        for trials in range(AT_ONCE, TRIALS + 1, AT_ONCE)
    ]


def fresh(folder: Path, plan: Plan, candidate: Candidate, repetition: int) -> dict[str, float]:
    """Train a network anew, and score it in LiteRT; kept."""
    path = folder / "fresh" / f"{candidate.key}-{repetition}.json"
    if not path.is_file():
        bench = plan.bench
        found = {"weight_bytes": bench.costs_of(candidate)["weight_bytes"]}
        seed = derive_seed(bench.seed, "fresh", candidate.key, repetition)
        task, data = bench.task_of(candidate), bench.data_of(candidate)
        try:
            quantized = plan.estimator.procedure.make(bench, candidate, RANDOM, seed).quantized
            model = LiteRTModel(write_tflite(quantized.program()), border=quantized.graph.border)
            for name, split in (("val", data.val), ("test", data.test)):
                found[name] = metrics_of(task, model.predict(split.inputs[:]), split)["mae"]
        except TrainingFailed:
            found |= {"val": CAP, "test": CAP}
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(found).encode())
    scored: dict[str, float] = json.loads(path.read_text("utf-8"))
    return scored


def points(folder: Path, plan: Plan, front: Sequence[Candidate], split: str) -> NDArray[np.float64]:
    """Return the mean MAE of each network of a front, trained anew, and log10 of its weight bytes, shape (n, 2)."""
    scored = [[fresh(folder, plan, candidate, n) for n in range(FRESH)] for candidate in front]
    rows = [[np.mean([one[split] for one in each]), np.log10(each[0]["weight_bytes"])] for each in scored]
    return np.array(rows, np.float64).reshape(-1, 2)


def measured(folder: Path, plan: Plan, seed: int, marks: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return our side's way of a seed until its fronts have been worth every mark of every split, or to its end."""
    way = []
    for step in ours(folder, seed):
        worth = {split: hypervolume(points(folder, plan, step.front, split), WORST) for split in ("val", "test")}
        way.append({"trials": step.trials, "seconds": step.seconds, **worth, "front": len(step.front)})
        print(f"ours, seed {seed}: {way[-1]}", flush=True)
        if all(max(known[split] for known in way) >= mark for split, mark in marks.items()):
            break
    return way


def seconds_to(way: Sequence[Mapping[str, float]], mark: float, split: str) -> float:
    """Return the CPU time until a front is worth a mark; infinite where none is."""
    return next((step["seconds"] for step in way if step[split] >= mark), float("inf"))


def interval(ratios: NDArray[np.float64]) -> Interval:
    """Return the 95 % interval of the geometric mean, by bootstrap over the seeds of each side, widened for few.

    Args:
        ratios: by seeds of both sides, shape (n, n); where one is infinite there is no interval.
    """
    if not np.isfinite(ratios).all():
        return Interval(np.nan, np.nan)
    generator = np.random.default_rng(0)
    drawn = generator.integers(len(ratios), size=(2, 10_000, len(ratios)))
    means = [np.log(ratios[np.ix_(ours, theirs)]).mean() for ours, theirs in zip(*drawn, strict=True)]
    # Three seeds a side: what percentiles would give holds in 74 of 100 cases, see `FEWEST_FOR_PERCENTILES`.
    spread = interval_of(np.array(means), len(ratios))
    return Interval(float(np.exp(spread.low)), float(np.exp(spread.high)))


def main() -> None:
    """Search with both sides, and tell the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    plan = load_plan(RECIPE)
    plan.check()
    ends = [plain(folder, plan, seed) for seed in range(arguments.seeds)]
    worths = [
        {split: hypervolume(points(folder, plan, end.front, split), WORST) for split in ("val", "test")} for end in ends
    ]
    marks = {split: max(worth[split] for worth in worths) for split in ("val", "test")}
    ways = [measured(folder, plan, seed, marks) for seed in range(arguments.seeds)]
    found: dict[str, Any] = {
        "plain": [
            {"trials": end.trials, "seconds": end.seconds, **worth, "front": len(end.front)}
            for end, worth in zip(ends, worths, strict=True)
        ],
        "qanas": ways,
    }
    for split in ("val", "test"):
        pairs = [
            [seconds_to(way, worth[split], split) / end.seconds for end, worth in zip(ends, worths, strict=True)]
            for way in ways
        ]
        ratios = np.array(pairs, np.float64)
        name = "ratio" if split == "val" else f"ratio_{split}"
        mean, spread = float(np.exp(np.log(ratios).mean())), interval(ratios)
        between = [spread.low, spread.high] if spread.known else None
        found |= {name: mean, f"{name}_interval": between, f"{name}s": ratios.tolist()}
        print(f"{split}: our CPU time over theirs, to a front as good: {mean:.4f}, 95 % {between}")
    if arguments.write is not None:
        text = json.dumps(found, indent=1).replace("Infinity", "null")  # never, which JSON has no number for
        arguments.write.with_suffix(".json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
