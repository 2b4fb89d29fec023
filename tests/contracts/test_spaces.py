"""The contracts of spaces and of their blocks, over every one that there is and over broken ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from examples.digits.digits import Digits, SmallCNN
from tests.cli.sine import ConvOrLSTM, Sine
from tests.workflows.tiny_blocks import Blobs, TinySpace
from torch import Tensor, nn

from qanas.networks.autoencoder import AutoencoderSpace
from qanas.networks.cells import CellSpace
from qanas.networks.conv1d import Conv1DSpace
from qanas.networks.deeplabv3 import DeepLabV3Space
from qanas.networks.dense import DenseSpace
from qanas.networks.ds_cnn import DSCNNSpace
from qanas.networks.fastestdet_space import FastestDetSpace
from qanas.networks.growing import GrowingSpace
from qanas.networks.gru import GRUSpace
from qanas.networks.lstm import LSTMSpace
from qanas.networks.mobilenet import MobileNetSpace
from qanas.networks.multi_branch import MultiBranchSpace
from qanas.networks.random_wiring import RandomWiringSpace
from qanas.networks.resnet import ResNetSpace
from qanas.networks.tcn import TCNSpace
from qanas.search_space.blockwise_space import Block
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.settings import Choice, Setting
from qanas.search_space.training_group import Penalty
from qanas.tasks.detection import Detection
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.turbofan import Turbofan
from qanas.testing import check_blocks, check_space
from qanas.testing.small import SmallSpace, SmallTask

if TYPE_CHECKING:
    from qanas.core.candidate import Candidate
    from qanas.tasks.base import Task

SPACES: list[tuple[NetworkSpace, Task]] = [
    (SmallSpace(weight_bits=(4, 8)), SmallTask()),
    (TinySpace(), Blobs()),
    (SmallCNN(), Digits()),
    (ConvOrLSTM(), Sine()),
    (LSTMSpace(max_units=8, seed_units=8, weight_bits=(4, 6, 8)), Turbofan("synthetic", stride=20)),
    (TCNSpace(max_channels=8), Turbofan("synthetic", stride=20)),
    (DenseSpace(weight_bits=(4, 8)), SmallTask()),
    (AutoencoderSpace(max_units=8, seed_units=8, weight_bits=(4, 8)), SmallTask()),
    (Conv1DSpace(reference="m5", seed_width=0.05, kernels=(3,), weight_bits=(4, 8)), Turbofan("synthetic", stride=20)),
    (GRUSpace(max_units=6, seed_units=6), Turbofan("synthetic", stride=20, window=5)),
    (ResNetSpace(seed_width=0.25, kernels=(3,), more_layers=1, weight_bits=(4, 8)), SmallTask()),
    (GrowingSpace(seed_channels=6, max_channels=8, stages=2, weight_bits=(4, 8)), SmallTask()),
    (CellSpace(seed_channels=2), SmallTask()),
    (CellSpace(shape="darts", cells=2, seed_channels=2), SmallTask()),
    (MultiBranchSpace(seed_channels=8, blocks=2, max_channels=4), SmallTask()),
    (RandomWiringSpace(seed_channels=3, max_nodes=5), SmallTask()),
    (DSCNNSpace(seed_width=0.25, kernels=(3, 5)), Turbofan("synthetic", stride=20)),
    (MobileNetSpace(reference="mobilenet_v1_0.25", kernels=(3, 5), halvings=1, weight_bits=(4, 8)), SmallTask()),
    (
        MobileNetSpace(
            reference="mobilenet_v3_small",
            seed_width=0.25,
            widths=(0.1, 0.25),
            kernels=(),
            squeezes=(False, True),
            activations=("relu6", "hard_swish"),
            halvings=2,
        ),
        SmallTask(),
    ),
    (
        FastestDetSpace(seed_width=0.25, channels=(24, 32), widths=(0.25, 0.5), fewer_units=3),
        Detection("synthetic", width=49, aspect=0.7),
    ),
    (
        DeepLabV3Space(width=0.25, layers=(2, 1, 1, 1, 1, 1), kernels=(3, 5), weight_bits=(4, 8)),
        Segmentation("synthetic", height=16, width=32),
    ),
]


@pytest.mark.parametrize(("space", "task"), SPACES, ids=[type(space).__name__ for space, _ in SPACES])
def test_it_keeps_the_contract(space: NetworkSpace, task: Task) -> None:
    check_space(space, task)


# What is broken is said


class NoReference(SmallSpace):
    def settings(self, shape: TaskShape) -> list[Setting]:
        return [setting for setting in super().settings(shape) if setting.name != "learning_rate"]


class NoClipping(SmallSpace):
    def settings(self, shape: TaskShape) -> list[Setting]:
        return [setting for setting in super().settings(shape) if setting.name != "gradient_clip"]


class TwiceNamed(SmallSpace):
    def settings(self, shape: TaskShape) -> list[Setting]:
        return [*super().settings(shape), Choice("option_0_0", "architecture", 0, options=(0, 1))]


class OwnRandomness(SmallSpace):
    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        network = super().build(candidate, shape)
        for parameter in network.parameters():
            if not parameter.is_meta:
                nn.init.normal_(parameter, generator=torch.Generator().manual_seed(torch.seed() % 1000))
        return network


class Headless(SmallSpace):
    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        network = super().build(candidate, shape)
        network.head = nn.Identity()
        return network


class Noisy(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs)  # never the same twice


class Restless(SmallSpace):
    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        return nn.Sequential(super().build(candidate, shape), Noisy())


class Cumulative(nn.Module):
    """What the graph has no operator for."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.cumprod(1)


class Exotic(SmallSpace):
    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        return nn.Sequential(super().build(candidate, shape), Cumulative())


class BitsOfNothing(SmallSpace):
    def module_weight_bits(self, candidate: Candidate) -> dict[str, int]:
        return {"backbone": 8}


class PenaltiesOfNothing(SmallSpace):
    def penalties(self, candidate: Candidate, network: nn.Module) -> dict[str, Penalty]:
        return {"backbone.weight": Penalty(0.1)}


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (NoReference(), "NoReference lacks settings of the training"),
        (NoClipping(), "the group training lacks gradient_clip"),
        (TwiceNamed(), "two settings are called 'option_0_0'"),
        (Headless(), "reference: outputs of shape (2, 6, 8, 8) for a batch of 2"),
        (OwnRandomness(), "the same seed, the same weights: reference: weights"),
        (Restless(), "a sample's output depends on nothing but the sample: reference"),
        (Exotic(), "The traced graph computes what the network does: Unsupported"),
        (BitsOfNothing(), "reference: there is no module backbone"),
        (PenaltiesOfNothing(), "reference: there is no parameter backbone.weight"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, NetworkSpace) else "",
)
def test_a_broken_one_is_caught(space: NetworkSpace, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_space(space, SmallTask())
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


class Reversed(SmallSpace):
    def blocks(self, shape: TaskShape) -> list[Block]:
        return super().blocks(shape)[::-1]


class Narrower(SmallSpace):
    """One option of the second block has fewer channels."""

    def blocks(self, shape: TaskShape) -> list[Block]:
        first, second = super().blocks(shape)
        option, other = second.layers[0]
        narrow = replace(option, build=lambda: nn.Conv2d(6, 5, 1))
        return [first, replace(second, layers=((narrow, other),))]


class Ambiguous(SmallSpace):
    """Options of a layer are chosen by nothing."""

    def blocks(self, shape: TaskShape) -> list[Block]:
        return [
            replace(
                block, layers=tuple(tuple(replace(option, settings={}) for option in each) for each in block.layers)
            )
            for block in super().blocks(shape)
        ]


class OtherLayers(SmallSpace):
    """What is distilled is something else than what is built."""

    def blocks(self, shape: TaskShape) -> list[Block]:
        first, second = super().blocks(shape)
        options = tuple(replace(option, build=lambda: nn.Conv2d(6, 6, 1)) for option in second.layers[0])
        return [first, replace(second, layers=(options,))]


class OneWidth(SmallSpace):
    """Both blocks have the bits of the first."""

    def module_weight_bits(self, candidate: Candidate) -> dict[str, int]:
        return dict.fromkeys(super().module_weight_bits(candidate), int(candidate.quantization["weight_bits_0"]))


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (Reversed(), "are modules of the reference, behind each other: InputError"),
        (Narrower(), "block_1, path (0,): (2, 5, 8, 8), the teacher's is (2, 6, 8, 8)"),
        (Ambiguous(), "block_0: (1, 1) comes back as (0, 0)"),
        (OtherLayers(), "load into the candidate's block, which then computes what the path does: RuntimeError"),
        (OneWidth(), "block_0 at 4 bits: so are ['blocks.0', 'blocks.1'], not ['blocks.0'] alone"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, NetworkSpace) else "",
)
def test_broken_blocks_are_caught(space: SmallSpace, told: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_blocks(space, SmallTask())
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
