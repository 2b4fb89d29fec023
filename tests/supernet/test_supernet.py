"""A block's supernet, the teacher's features, and distillation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from qanas.core.errors import InputError, TrainingFailed
from qanas.core.events import Event
from qanas.search_space.network_space import TaskShape
from qanas.search_space.space import space_of
from qanas.supernet.block_supernet import BlockSupernet, DistilledStart
from qanas.supernet.distillation import DistillationSettings, NoiseToSignal, distil
from qanas.supernet.paths import Sampling
from qanas.supernet.teacher_features import BlockFeatures, features_are_there, features_of, write_features
from qanas.testing.small import CLASSES
from tests.workflows.tiny_blocks import OPTIONS, SIZE, TinySpace, seeded_network

SHAPE = TaskShape((3, SIZE, SIZE), CLASSES, 1.0, ("cross_entropy",))
BLOCKS = TinySpace().blocks(SHAPE)
SETTINGS = DistillationSettings(8, "fair", 8, 0.5)


def features(count: int = 32) -> list[BlockFeatures]:
    generator = torch.Generator().manual_seed(3)
    return features_of(seeded_network(), BLOCKS, torch.randn(count, 3, SIZE, SIZE, generator=generator))


def test_a_path_is_the_candidates_block() -> None:
    space = TinySpace()
    supernet = BlockSupernet.seeded(BLOCKS[1], 0).eval()
    path = (2, 1)
    seed = space_of(space.settings(SHAPE), ("architecture", "quantization")).reference
    candidate = space.candidate(SHAPE, seed, [(0, 0), path], [8, 8])
    network = space.build(candidate, SHAPE).eval()
    block = network.get_submodule(BLOCKS[1].module)
    block.load_state_dict(dict(supernet.path_state(path)))
    inputs = torch.randn(2, 6, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(block(inputs), supernet(inputs, path))


def test_features_are_what_passes_the_teachers_blocks(tmp_path: Path) -> None:
    teacher = seeded_network()
    samples = torch.randn(19, 3, SIZE, SIZE)  # more than a chunk, and no multiple of it
    write_features(teacher, BLOCKS, samples, tmp_path / "features")
    with torch.no_grad():
        value = teacher.stem(samples)
        for number, block in enumerate(teacher.blocks):
            mapped = BlockFeatures.mapped(tmp_path / "features", number)
            torch.testing.assert_close(mapped.inputs, value)
            value = block(value)
            torch.testing.assert_close(mapped.outputs, value)
    in_memory = features_of(teacher, BLOCKS, samples)[1]
    assert torch.equal(in_memory.outputs, BlockFeatures.mapped(tmp_path / "features", 1).outputs)


def test_a_changed_bit_of_the_features_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    assert not features_are_there(folder)
    write_features(seeded_network(), BLOCKS, torch.randn(2, 3, SIZE, SIZE), folder)
    assert features_are_there(folder)
    path = folder / "1.npy"
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    assert not features_are_there(folder)
    path.unlink()
    assert not features_are_there(folder)


def test_a_teacher_without_the_block_is_one_line(tmp_path: Path) -> None:
    teacher = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(InputError, match=r"Sequential has no module blocks\.0"):
        write_features(teacher, BLOCKS, torch.randn(2, 3, SIZE, SIZE), tmp_path / "features")
    assert not (tmp_path / "features").exists()


class Detour(nn.Module):
    """Blocks with something in between."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = seeded_network()
        self.blocks = self.inner.blocks

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first: torch.Tensor = self.blocks[0](self.inner.stem(inputs))
        outputs: torch.Tensor = self.blocks[1](first * 2)
        return outputs


def test_blocks_that_are_not_behind_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"blocks\.1 doesn't take what the block before it puts out"):
        write_features(Detour().eval(), BLOCKS, torch.randn(2, 3, SIZE, SIZE), tmp_path / "features")


def test_noise_to_signal_by_hand() -> None:
    teacher = torch.tensor([[[[0.0, 2.0]], [[0.0, 4.0]]]])  # variances 1 and 4
    outputs = teacher + torch.tensor([1.0, 2.0])[None, :, None, None]
    noise = NoiseToSignal.of(teacher)
    assert noise(outputs, teacher).tolist() == [1.0]  # (1 / 1 + 4 / 4) / 2
    assert noise(teacher, teacher).tolist() == [0.0]


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    teacher = torch.zeros(2, 1, 2, 2)
    assert torch.isfinite(NoiseToSignal.of(teacher)(teacher + 1e-3, teacher)).all()


@pytest.mark.parametrize("sampling", ["fair", "uniform"])
def test_distillation_brings_every_path_near_the_teacher(sampling: Sampling) -> None:
    block = features()[1]
    noise = NoiseToSignal.of(block.outputs)
    before, after = BlockSupernet.seeded(BLOCKS[1], 0), BlockSupernet.seeded(BLOCKS[1], 0)
    events: list[Event] = []

    def watch(event: Event) -> bool:
        events.append(event)
        return True

    assert distil(after, block, DistillationSettings(400, sampling, 8, 0.5), 0, watch)
    assert len(events) >= 50
    assert (events[-1].done, events[-1].total) == (400, 400)
    assert not after.training
    before.train()
    after.train()  # each path with statistics of its own
    with torch.no_grad():
        for first in range(len(OPTIONS)):
            for second in range(len(OPTIONS)):
                untrained, trained = (
                    float(noise(net(block.inputs, (first, second)), block.outputs).mean()) for net in (before, after)
                )
                assert trained < 0.5 * untrained


def test_distillation_depends_on_the_seed_alone() -> None:
    block = features()[0]
    nets = [BlockSupernet.seeded(BLOCKS[0], 0) for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        distil(net, block, DistillationSettings(40, "fair", 8, 0.5), seed)
    first, again, other = ([value.numpy() for value in net.state_dict().values()] for net in nets)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_options_off_the_path_stay_as_they_are() -> None:
    block = features()[0]
    net = BlockSupernet.seeded(BLOCKS[0], 0)
    before = {name: value.clone() for name, value in net.named_parameters()}
    distil(net, block, DistillationSettings(1, "uniform", 8, 0.5), 0)
    changed = {
        tuple(name.split(".")[1:3]) for name, value in net.named_parameters() if not torch.equal(value, before[name])
    }
    assert len(changed) == TinySpace.layers[0]  # one option a layer


def test_a_loss_that_is_not_finite_ends_it() -> None:
    block = features()[0]
    net = BlockSupernet.seeded(BLOCKS[0], 0)
    with pytest.raises(TrainingFailed, match="training loss became nan in pass"):
        distil(net, BlockFeatures(block.inputs, block.outputs * float("nan")), SETTINGS, 0)


def test_a_candidate_starts_from_the_teacher_and_its_distilled_blocks(tmp_path: Path) -> None:
    space = TinySpace()
    teacher = seeded_network()
    save_file(teacher.state_dict(), tmp_path / "teacher.safetensors")
    supernets = [BlockSupernet.seeded(block, 7) for block in BLOCKS]
    paths = [tmp_path / f"{number}.safetensors" for number in range(len(BLOCKS))]
    for supernet, path in zip(supernets, paths, strict=True):
        save_file(supernet.state_dict(), path)
    seed = space_of(space.settings(SHAPE), ("architecture", "quantization")).reference
    chosen = [(0, 3), (2, 1)]
    candidate = space.candidate(SHAPE, seed, chosen, [8, 8])
    assert [block.path_of(candidate.architecture) for block in BLOCKS] == chosen
    network = space.build(candidate, SHAPE).eval()
    DistilledStart(space, tmp_path / "teacher.safetensors", tuple(paths)).apply(candidate, network, SHAPE)
    inputs = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        value = teacher.stem(inputs)
        for supernet, options in zip(supernets, chosen, strict=True):
            value = supernet.eval()(value, options)
        assert torch.equal(teacher.head(value), network(inputs))


def test_a_candidate_of_no_path_is_refused() -> None:
    with pytest.raises(ValueError, match="block_1: layer 2 of the candidate is none of its options"):
        BLOCKS[1].path_of({"option_1_0": 0, "option_1_1": 9})
