"""The supernet of whole networks: what a path computes, who is trained by a step, and what a killed training leaves."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qanas.core.errors import InputError
from qanas.core.events import Event, go_on
from qanas.core.measures import Cost, Limit
from qanas.performance_estimation.procedure import FullTraining
from qanas.performance_estimation.weight_sharing import SupernetOptions, WeightSharing, cost_windows, new_supernet
from qanas.search_space.start import Proposal
from qanas.supernet.network_supernet import SharedStart, SharedTraining, train_shared
from qanas.supernet.paths import PathsTrainer
from qanas.testing.properties import random_candidate
from qanas.testing.small import PlainStages, SmallSpace, small_bench

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from qanas.core.candidate import Candidate
    from qanas.performance_estimation.bench import Bench
    from qanas.supernet.network_supernet import NetworkSupernet

SETTINGS = SharedTraining(passes=60, sampling="uniform", batch_size=8, learning_rate=0.05, loss="cross_entropy")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return small_bench(search=("architecture", "quantization"))


def path_of(bench: Bench, candidate: Candidate) -> list[int]:
    blocks = SmallSpace().blocks(bench.shape)
    return [place for block in blocks for place in block.path_of(candidate.architecture)]


def trained(bench: Bench, path: Path, watch: object = go_on) -> NetworkSupernet:
    supernet = new_supernet(bench)
    train_shared(
        supernet,
        lambda seed: bench.training_set(bench.reference, seed),
        bench.task.loss,
        SETTINGS,
        seed=3,
        checkpoint=path,
        watch=watch,  # type: ignore[arg-type]
    )
    return supernet


@pytest.fixture(scope="module")
def whole(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> NetworkSupernet:
    return trained(bench, tmp_path_factory.mktemp("whole") / "checkpoint.safetensors")


def test_every_path_is_the_network_that_has_its_weights(bench: Bench, whole: NetworkSupernet, tmp_path: Path) -> None:
    file = tmp_path / "supernet.safetensors"
    save_file({name: values.contiguous() for name, values in whole.network.state_dict().items()}, file)
    start = SharedStart(SmallSpace(), file)
    inputs = torch.from_numpy(bench.data.of({}).val.inputs)
    for seed in range(6):
        candidate = random_candidate(bench.space, seed)
        alone = bench.build(candidate, seed, start).eval()
        with torch.no_grad():
            assert torch.equal(whole(inputs, path_of(bench, candidate)), alone(inputs))


def test_a_score_is_that_of_the_network_alone(bench: Bench, tmp_path: Path) -> None:
    """Metrics of the prepared estimator are those of a network built and calibrated by hand, bit by bit."""
    procedure = FullTraining(epochs=1, calibration_samples=8)
    estimator = WeightSharing(procedure, SupernetOptions(steps=20, batch_size=8, statistics_samples=40))
    ready = estimator.prepare(bench, PlainStages(bench, procedure, tmp_path), ())
    candidate = random_candidate(bench.space, 1)
    said = ready.estimate(bench, Proposal(candidate), 5, (), go_on).scores
    network = bench.build(candidate, 9, SharedStart(SmallSpace(), ready.file.path))
    data = bench.data.of({})
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    chosen = np.linspace(0, len(data.train) - 1, min(40, len(data.train))).round().astype(int)
    with torch.no_grad():
        network.train()(torch.from_numpy(data.train.inputs[chosen]))
        outputs = network.eval()(torch.from_numpy(data.val.inputs)).numpy()
    for metric, value in bench.task.evaluate(outputs, data.val).items():
        assert said[f"shared_{metric}_float"] == pytest.approx(value, abs=1e-6)


class Counted(PathsTrainer):
    """Notes which options a step gave a gradient."""

    def __init__(self, supernet: NetworkSupernet, bench: Bench, sampling: str) -> None:
        super().__init__(
            supernet,
            bench.training_set(bench.reference, 0),
            partial(bench.task.loss, "cross_entropy"),
            options=supernet.options,
            sampling=sampling,  # type: ignore[arg-type]
            generator=torch.Generator().manual_seed(0),
        )
        self.gradients: Counter[str] = Counter()
        for name, parameter in supernet.named_parameters():
            if ".layers." in name:
                parameter.register_post_accumulate_grad_hook(partial(self._note, name))  # type: ignore[no-untyped-call]

    def _note(self, name: str, _: Tensor) -> None:
        self.gradients[name] += 1


def test_a_fair_step_gives_every_option_one_gradient(bench: Bench) -> None:
    trainer = Counted(new_supernet(bench), bench, "fair")
    own = {name for name, _ in trainer.supernet.named_parameters() if ".layers." in name}
    for step in (1, 2):
        trainer.step(torch.arange(8), 0.01)
        assert trainer.gradients == dict.fromkeys(own, step)


def test_a_uniform_step_trains_one_path(bench: Bench) -> None:
    supernet = new_supernet(bench)
    trainer = Counted(supernet, bench, "uniform")
    trainer.step(torch.arange(8), 0.01)
    assert set(trainer.gradients.values()) == {1}
    places = {name.rsplit(".layers.", 1)[0] + name.split(".layers.")[1][:1] for name in trainer.gradients}
    assert len(places) == len(supernet.options)


def test_windows_are_of_the_costs_of_networks_and_of_what_is_named(bench: Bench) -> None:
    """What a path's options add up to is the cost of the network, bytes with the widest weights."""
    wide = small_bench(search=("architecture", "quantization"), networks=SmallSpace(weight_bits=(4, 8)))
    windows = cost_windows(wide, SupernetOptions(cost="packed_weight_bytes", windows=3))
    assert windows is not None
    for seed in range(3):
        candidate = random_candidate(bench.space, seed)
        path = path_of(bench, candidate)
        own = sum(costs[chosen] for costs, chosen in zip(windows.costs, path, strict=True))
        assert own == pytest.approx(bench.costs_of(candidate)["packed_weight_bytes"])
    assert windows.borders[0] == sum(map(min, windows.costs))
    for options, told in (
        ({"cost": "arena_bytes"}, "supernet.cost: unknown cost that adds up over layers 'arena_bytes'"),
        ({"cost": "macs", "sampling": "fair"}, "a fair step trains every option once"),
        ({"most": 9.0}, "are of a cost; name it"),
    ):
        with pytest.raises(InputError, match=told):
            WeightSharing(FullTraining(), SupernetOptions(**options)).check_bench(bench)
    with pytest.raises(InputError, match=r"supernet\.cost: macs: paths cost"):
        cost_windows(bench, SupernetOptions(cost="macs", most=1.0))


@pytest.mark.parametrize(
    ("given", "most"),
    [({"cost": "macs"}, 900.0), ({"cost": "macs", "most": 5.0}, 5.0), ({"cost": "file_bytes"}, None), ({}, None)],
)
def test_windows_end_at_the_limit_on_their_cost(given: dict[str, Any], most: float | None) -> None:
    limits = [Limit(Cost("packed_weight_bytes"), 70), Limit(Cost("macs"), 900)]
    (options,) = WeightSharing.bounded({"supernet": SupernetOptions(**given)}, limits).values()
    assert options == SupernetOptions(**given | {"most": most})


class StopAfter:
    """Stops a training after some events."""

    def __init__(self, events: int) -> None:
        self.left = events

    def __call__(self, _: Event) -> bool:
        self.left -= 1
        return self.left > 0


def test_a_killed_training_goes_on_to_the_same_weights(bench: Bench, whole: NetworkSupernet, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    for events in (1, 7, 31):
        trained(bench, path, StopAfter(events))
    seen: list[int] = []

    def told(event: Event) -> bool:
        seen.append(event.done)
        return True

    again = trained(bench, path, told).state_dict()
    assert seen[0] > 31
    assert seen[-1] == SETTINGS.passes
    assert all(torch.equal(values, again[name]) for name, values in whole.state_dict().items())


def test_a_damaged_checkpoint_costs_time_alone(bench: Bench, whole: NetworkSupernet, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"no tensors")
    again = trained(bench, path).state_dict()
    assert all(torch.equal(values, again[name]) for name, values in whole.state_dict().items())
