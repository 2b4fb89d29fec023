"""Full training with weights of few bits, with and without quantization-aware training."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.performance_estimation.given import bench_of
from torch import Tensor

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError, TrainingFailed
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.networks.lstm import LSTMSpace
from qanas.networks.tcn import TCNSpace
from qanas.performance_estimation.bench import RANDOM, PreparedData
from qanas.performance_estimation.procedure import FullTraining, TrainedNetwork
from qanas.search_space.network_space import NetworkSpace
from qanas.search_space.space import space_of
from qanas.tasks.samples import Split
from qanas.tasks.turbofan.task import Turbofan
from qanas.testing.small import SIDES, SmallTask, small_bench

TASK = Turbofan("synthetic", stride=24)
DATA = TASK.load()
SPACES: dict[str, NetworkSpace] = {
    "lstm": LSTMSpace(seed_layers=2, seed_units=6),
    "tcn": TCNSpace(seed_blocks=2, seed_channels=6),
}
DEVICES: tuple[Literal["cpu", "cuda"], ...] = ("cpu", "cuda")


@cache
def trained(name: str, bits: int, *, qat_epochs: int, seed: int = 0) -> TrainedNetwork:
    bench = bench_of(TASK, DATA, SPACES[name])
    settings = space_of(SPACES[name].settings(bench.shape), ["architecture"]).reference
    candidate = Candidate(settings.architecture, settings.training, {"weight_bits": bits})
    return FullTraining(epochs=1, qat_epochs=qat_epochs).make(bench, candidate, RANDOM, seed)


def weights(outcome: TrainedNetwork) -> Any:  # noqa: ANN401 - a flat tensor
    return torch.cat([t.flatten() for node in outcome.quantized.graph.nodes for t in node.operator.tensors().values()])


@pytest.mark.parametrize("qat_epochs", [0, 1])
@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("name", SPACES)
def test_a_file_with_weights_of_few_bits_computes_what_was_scored(name: str, bits: int, qat_epochs: int) -> None:
    outcome = trained(name, bits, qat_epochs=qat_epochs)
    inputs = np.concatenate([DATA.val.inputs[::16], 1.5 * DATA.val.inputs[::64]])
    split = Split(inputs, np.zeros(len(inputs), np.float32))
    deployed = LiteRTModel(write_tflite(outcome.quantized.program())).codes(inputs)
    assert len(np.unique(deployed)) > 10
    assert np.array_equal(outcome.codes(split).numpy(), deployed), "0 steps"


@pytest.mark.parametrize("name", SPACES)
def test_quantization_aware_training_changes_what_ships_and_not_the_fp32_network(name: str) -> None:
    without, with_it = (trained(name, 4, qat_epochs=epochs) for epochs in (0, 1))
    again = trained.__wrapped__(name, 4, qat_epochs=1)
    for ours, theirs in zip(without.network.state_dict().values(), with_it.network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(weights(without), weights(with_it))
    assert torch.equal(weights(with_it), weights(again)), "deterministic"
    other = trained(name, 4, qat_epochs=1, seed=1)
    assert not torch.equal(weights(with_it), weights(other))


def test_weights_of_8_bits_are_not_trained_further() -> None:
    without, with_it = (trained("lstm", 8, qat_epochs=epochs) for epochs in (0, 3))
    assert torch.equal(weights(without), weights(with_it))
    assert torch.equal(without.codes(DATA.val), with_it.codes(DATA.val))


def test_no_epochs_of_quantization_aware_training_is_post_training_quantization() -> None:
    outcome = trained("lstm", 4, qat_epochs=0)
    trained_weights = torch.cat([value.flatten() for value in outcome.network.state_dict().values()])
    # The head's weights are scaled where they are folded; the LSTMs' are those of the network.
    before_head = trained_weights[: -(6 + 1)]
    assert torch.equal(weights(outcome)[: len(before_head)], before_head)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(TASK, DATA, SPACES["lstm"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="torch finds no CUDA device"):
        FullTraining(device="cuda").check(bench)
    FullTraining(device="cpu").check(bench)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SPACES)
def test_on_a_gpu_a_candidate_is_what_it_is_on_the_cpu(name: str) -> None:
    bench = bench_of(TASK, DATA, SPACES[name])
    on_cpu, on_gpu = (
        FullTraining(epochs=2, device=device).make(bench, bench.reference, RANDOM, 3) for device in DEVICES
    )
    np.testing.assert_allclose(on_gpu.float_outputs(DATA.val), on_cpu.float_outputs(DATA.val), atol=0.5)  # cycles
    assert on_gpu.codes(DATA.val).shape == (len(DATA.val), 1)


def test_candidates_that_can_not_be_quantized_fail_with_the_reason() -> None:
    data = replace(DATA, train=replace(DATA.train, inputs=np.full_like(DATA.train.inputs, np.nan)))
    bench = bench_of(TASK, data, SPACES["lstm"])
    candidate = space_of(SPACES["lstm"].settings(bench.shape), ["architecture"]).reference
    with pytest.raises(TrainingFailed, match="nan"):
        FullTraining(epochs=1).make(bench, candidate, RANDOM, 0)


@dataclass(frozen=True)
class Placed(SmallTask):
    """A loss that depends on the input, as that of boxes does, which lie in it."""

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        assert self.side == SIDES[1]
        return super().loss(kind, outputs, targets)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_candidates_loss_is_that_of_its_own_input(bits: int) -> None:
    bench = small_bench(data=PreparedData(Placed()))
    few = dict.fromkeys(bench.reference.quantization, bits)
    candidate = replace(bench.reference, input={"side": SIDES[1]}, quantization=few)
    procedure = FullTraining(epochs=1, qat_epochs=1)
    assert procedure.make(bench, candidate, RANDOM, 0).curve
    assert procedure.forecast(bench, candidate) > 0
