"""Nearest and bilinear resizing."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom

from qanas.quantization.border import INPUT
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.resize import ResizeBilinear, ResizeNearest
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.testing.runtime import Deployed, Randomness, chain, float_gap

Resize = ResizeBilinear | ResizeNearest


def resizes(height: int, width: int) -> dict[str, Resize]:
    return {
        "nearest": ResizeNearest(height, width),
        "nearest-exact": ResizeNearest(height, width, from_centres=True),
        "bilinear": ResizeBilinear(height, width),
        "bilinear, corners aligned": ResizeBilinear(height, width, aligns_corners=True),
    }


KINDS = list(resizes(1, 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(40))
def test_resized_codes_are_those_of_the_kernel(seed: int, kind: str) -> None:
    random = Randomness(seed)
    largest = 60 if seed % 4 == 0 else 12
    shape = (random.integer(1, largest), random.integer(1, largest), random.integer(1, 3))
    wanted = (2 * shape[0], 2 * shape[1]) if seed % 3 == 0 else (random.integer(1, largest), random.integer(1, largest))
    graph = chain(shape, resizes(*wanted)[kind])
    deployed = Deployed.of(graph, {INPUT: random.range(), graph.output: (0.0, 0.0)})
    assert deployed.differing_codes(random.codes(4, shape)) == 0


@pytest.mark.parametrize(("size", "wanted"), [(2, 41), (2, 82), (3, 123), (4, 98), (6, 74)])
def test_the_nearest_pixels_are_those_of_float32_where_more_digits_give_others(size: int, wanted: int) -> None:
    random = Randomness(size)
    for kind in ("nearest", "nearest-exact"):
        for shape, resize in (((size, 1, 1), resizes(wanted, 1)), ((1, size, 1), resizes(1, wanted))):
            deployed = Deployed.of(chain(shape, resize[kind]), {INPUT: (-1.0, 1.0), "node_0": (0.0, 0.0)})
            assert deployed.differing_codes(random.codes(3, shape)) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(4, 6), (7, 9), (2, 3), (3, 1), (1, 5)])
def test_resizes_in_float_are_those_of_torch(height: int, width: int, kind: str) -> None:
    samples = Randomness(height).normal(3, 4, 3, 2)
    graph = chain((4, 3, 2), resizes(height, width)[kind])
    mode, _, corners = kind.partition(", ")
    options = {"align_corners": bool(corners)} if mode == "bilinear" else {}
    expected = F.interpolate(samples.permute(0, 3, 1, 2), (height, width), mode=mode, **options)
    assert torch.allclose(graph.forward(samples), expected.permute(0, 2, 3, 1), atol=1e-6)
    assert float_gap(graph, samples) < 1e-5
    assert graph.shapes[graph.output] == (height, width, 2)


def test_interpolated_codes_by_hand() -> None:
    # 0 and 10, twice as wide: 0, 2.5, 7.5, 10; halves go away from zero.
    graph = chain((1, 2, 1), ResizeBilinear(1, 4))
    deployed = Deployed.of(graph, {INPUT: (-128.0, 127.0), graph.output: (0.0, 0.0)})
    assert deployed.quantized.codes(torch.tensor([[[[0.0], [10.0]]]])).flatten().tolist() == [0.0, 3.0, 8.0, 10.0]
    assert deployed.quantized.codes(torch.tensor([[[[0.0], [-10.0]]]])).flatten().tolist() == [0.0, -3.0, -8.0, -10.0]


@pytest.mark.parametrize("kind", KINDS)
def test_resizes_share_the_parameters_of_their_input(kind: str) -> None:
    affine = Affine(0.1, 3)
    assert resizes(3, 3)[kind].quantize([affine], Ranges((0.0, 1.0), {}), Scheme())[1] is affine


def test_resizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="resize of"):
        ResizeNearest(3, 3).output_shape((4, 3))
    with pytest.raises(ValueError, match="resize to 0 x 3"):
        ResizeNearest(0, 3).output_shape((4, 3, 1))


def test_a_resize_whose_rounded_steps_leave_the_input_is_refused() -> None:
    # 1,024 pixels / 3,000 are 341.33 / 2^10 a step, rounded up to 342: the last position is far beyond the end.
    refused = [size for size in range(1, 60) if not _fits(size, 4000)]
    assert refused
    with pytest.raises(ValueError, match="beyond the input"):
        ResizeBilinear(4000, 1).output_shape((refused[0], 1, 1))


def _fits(size: int, wanted: int) -> bool:
    try:
        ResizeBilinear(wanted, 1).output_shape((size, 1, 1))
    except ValueError:
        return False
    return True
