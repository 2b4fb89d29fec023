"""The contracts of starts, procedures and estimators, over every one that there is and over broken ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from qanas.core.candidate import Candidate
from qanas.core.events import Watch, go_on
from qanas.core.measures import Score
from qanas.performance_estimation.base import Estimate, Estimator
from qanas.performance_estimation.bench import Bench
from qanas.performance_estimation.block_tables import BlockTables, DistillationOptions, TableOptions
from qanas.performance_estimation.predictor import Predictor
from qanas.performance_estimation.procedure import FullTraining, Procedure, TrainedNetwork
from qanas.performance_estimation.proxies import Proxies
from qanas.performance_estimation.scored_blocks import ScoreOptions
from qanas.performance_estimation.stopped_training import EarlyStopping, LearningCurves
from qanas.performance_estimation.training import Training
from qanas.performance_estimation.weight_sharing import SupernetOptions, WeightSharing, new_supernet
from qanas.search_space.start import RANDOM, Proposal, RandomStart, Start
from qanas.supernet.block_supernet import BlockSupernet, DistilledStart
from qanas.supernet.network_supernet import SharedStart
from qanas.testing import check_estimator, check_procedure, check_start
from qanas.testing.small import SmallSpace, small_bench
from qanas.testing.starts import FinalWeights
from qanas.training.pretrained import FileStart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qanas.core.trials import TrialRecord
    from qanas.search_space.network_space import TaskShape

QUICK = FullTraining(epochs=2, calibration_samples=16)
TABLES = BlockTables(QUICK, DistillationOptions(steps=8), TableOptions(bits=[4, 8], calibration_samples=8))
REPLACING = replace(
    TABLES,
    table=TableOptions(bits=[4, 8], full=True, calibration_samples=8),
    score=ScoreOptions(name="replace_one", samples=8),
)
SHARED = WeightSharing(QUICK, SupernetOptions(steps=8, batch_size=8, statistics_samples=16))

calls = itertools.count()


def weights_file(path: Path, seed: int) -> Path:
    bench = small_bench()
    save_file(dict(bench.build(bench.reference, seed).state_dict()), path)
    return path


# Starts


def test_random_weights_keep_the_contract() -> None:
    check_start(RANDOM)


def test_weights_of_a_file_keep_the_contract(tmp_path: Path) -> None:
    first, second = (FileStart(weights_file(tmp_path / f"{seed}.safetensors", seed)) for seed in (1, 2))
    check_start(first, other=second)


def test_distilled_weights_keep_the_contract(tmp_path: Path) -> None:
    bench = small_bench()
    supernets = []
    for number, block in enumerate(SmallSpace().blocks(bench.shape)):
        supernets.append(tmp_path / f"supernet_{number}-1234.safetensors")
        save_file(dict(BlockSupernet.seeded(block, 5).state_dict()), supernets[-1])
    start = DistilledStart(SmallSpace(), weights_file(tmp_path / "teacher.safetensors", 1), tuple(supernets))
    smallest = dict.fromkeys(bench.reference.architecture, 0)
    check_start(start, candidate=Candidate(smallest, bench.reference.training, bench.reference.quantization))


def test_shared_weights_keep_the_contract(tmp_path: Path) -> None:
    starts = []
    for seed in (1, 2):
        path = tmp_path / f"supernet-{seed}.safetensors"
        save_file(dict(new_supernet(small_bench(seed=seed)).network.state_dict()), path)
        starts.append(SharedStart(SmallSpace(), path))
    check_start(starts[0], other=starts[1])


class Anonymous(FinalWeights):
    @property
    def digest(self) -> str:
        return ""


class Misnamed(RandomStart):
    @property
    def digest(self) -> str:
        return "weights"


class OneName(FinalWeights):
    @property
    def digest(self) -> str:
        return "all"


class Unsteady(FinalWeights):
    @property
    def digest(self) -> str:
        return f"call {next(calls)}"


class Drawn(FinalWeights):
    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        for parameter in network.parameters():
            nn.init.normal_(parameter)


class HalfGiven(FinalWeights):
    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        nn.init.constant_(next(network.parameters()), self.size)


class Infinite(FinalWeights):
    def apply(self, candidate: Candidate, network: nn.Module, shape: TaskShape) -> None:
        nn.init.constant_(next(network.parameters()), float("inf"))


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (Anonymous(), "digest '', it.stem"),
        (Misnamed(), "digest 'weights', no weight changed"),
        (OneName(), "both have 'all'"),
        (Unsteady(), "The digest is a text, the same each time"),
        (Drawn(), "The same network is given the same weights each time"),
        (HalfGiven(), "Where weights are final, none is left as it was drawn: from another seed weights."),
        (Infinite(), "is not finite"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Start) else "",
)
def test_a_broken_start_is_caught(start: Start, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_start(start, other=type(start)(0.5) if isinstance(start, FinalWeights) else None)
    assert told in str(caught.value)


# Procedures


@pytest.mark.parametrize("procedure", [QUICK, replace(QUICK, qat_epochs=1)], ids=["full", "quantization-aware"])
def test_a_procedure_keeps_the_contract(procedure: Procedure) -> None:
    check_procedure(procedure)


def test_a_procedure_with_a_cache_keeps_the_contract_but_for_what_a_cache_does(tmp_path: Path) -> None:
    cached = replace(QUICK, cache=str(tmp_path))
    with pytest.raises(AssertionError, match="no event arrived"):  # what is kept is not trained again
        check_procedure(cached)


class GlobalSeed(FullTraining):
    def make(self, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on) -> TrainedNetwork:
        return super().make(bench, candidate, start, int(torch.randint(1000, ())), watch)


class SeedLess(FullTraining):
    def make(self, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on) -> TrainedNetwork:
        return super().make(bench, candidate, start, 0, watch)


class Unfinished(FullTraining):
    def make(self, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on) -> TrainedNetwork:
        made = super().make(bench, candidate, start, seed, watch)
        made.network.train()
        return made


class AlwaysTraining(FullTraining):
    def make(self, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on) -> TrainedNetwork:
        return super().make(bench, candidate, RANDOM, seed, watch)


class Deaf(FullTraining):
    def make(self, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on) -> TrainedNetwork:
        return super().make(bench, candidate, start, seed, lambda event: watch(event) or True)


class Silent(FullTraining):
    def make(self, bench: Bench, candidate: Candidate, start: Start, seed: int, watch: Watch = go_on) -> TrainedNetwork:
        return super().make(bench, candidate, start, seed)


class Meddling(FullTraining):
    def quantize(self, bench: Bench, candidate: Candidate, network: nn.Module, seed: int) -> Any:  # noqa: ANN401
        quantized = super().quantize(bench, candidate, network, seed)
        with torch.no_grad():
            next(network.parameters()).mul_(0.5)
        return quantized


class Fortune(FullTraining):
    def forecast(self, bench: Bench, candidate: Candidate) -> float:
        return float("inf")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (GlobalSeed, "The same arguments give the same network bit for bit"),
        (SeedLess, "two seeds give the same weights"),
        (Unfinished, "a module is in training mode"),
        (AlwaysTraining, "A start whose weights are final is not trained: weights."),
        (Deaf, "2 events, though the first one was answered with stop"),
        (Silent, "no event arrived"),
        (Meddling, "`quantize` gives what `make` did, and leaves the network as it is: weights."),
        (Fortune, "The forecast is a finite number of seconds: it is inf"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_procedure_is_caught(kind: type[FullTraining], told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_procedure(kind(epochs=2, calibration_samples=16))
    assert told in str(caught.value)


# Estimators


ESTIMATORS = [
    Training(QUICK),
    TABLES,
    REPLACING,
    SHARED,
    EarlyStopping(QUICK, rungs=(1,)),
    LearningCurves(QUICK, first=1),
    LearningCurves(QUICK, method="learned"),
    LearningCurves(QUICK, first=1, method="sotl"),
    Predictor(replace(QUICK, epochs=1), anchors=10, choose="rounds", min_tau=-1.0, proxies=("snip",)),
    Proxies(QUICK, "zen"),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_an_estimator_keeps_the_contract(estimator: Estimator) -> None:
    check_estimator(estimator, small_bench(networks=SmallSpace(weight_bits=(4, 8))))


@dataclass(frozen=True)
class Faulty(Estimator):
    """Counts settings, with one fault."""

    fault: str
    procedure: Procedure = QUICK

    def axis(self, measure: Any) -> Any:  # noqa: ANN401
        return Score("predicted_accuracy") if measure.column == "accuracy_quantized" else measure

    def refusal(self, bench: Bench, candidate: Candidate) -> str:
        return "two\nlines" if self.fault == "refusal" and candidate != bench.reference else ""

    def estimate(
        self, bench: Bench, proposal: Proposal, seed: int, history: Sequence[TrialRecord], watch: Watch
    ) -> Estimate:
        value = {
            "counter": float(next(calls)),
            "global": float(torch.rand(())),
            "history": float(len(history)),
            "nan": float("nan"),
        }.get(self.fault, 1.0)
        return Estimate({"accuracy_quantized" if self.fault == "axis" else "predicted_accuracy": value})

    def offer(self, kind: Any) -> Any:  # noqa: ANN401
        return "anything" if self.fault == "offer" else super().offer(kind)

    def summary(self) -> dict[str, Any]:
        return {"bench": small_bench()} if self.fault == "summary" else {}


def test_the_faulty_one_without_a_fault_keeps_the_contract() -> None:
    check_estimator(Faulty(""))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("axis", "predicted_accuracy is not among accuracy_quantized"),
        ("nan", "predicted_accuracy is not finite"),
        ("counter", "The same arguments give the same scores"),
        ("global", "whatever the global generators' state, and in workers: scores.predicted_accuracy"),
        ("history", "An estimate depends on earlier ones only where `reads_history` says so"),
        ("refusal", "A candidate is refused in one line or not at all"),
        ("offer", "what it doesn't offer isn't refused; it gives 'anything'"),
        ("summary", "The summary can be written as JSON: TypeError"),
    ],
)
def test_a_broken_estimator_is_caught(fault: str, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_estimator(Faulty(fault))
    assert told in str(caught.value)
