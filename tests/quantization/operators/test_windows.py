"""Pools, their geometry, and padding."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.windows import AveragePool, Fill, MaxPool, Pad, Window
from qanas.quantization.ranges import Ranges
from qanas.quantization.scheme import Scheme
from qanas.testing.runtime import Deployed, Randomness, chain, float_gap

LOWEST_FLOAT = float(np.finfo(np.float32).min)


def kinds(graph: Graph) -> list[str]:
    """The runtime's operators."""
    return [operator.kind for operator in graph.program().operators]


def images(values: Tensor) -> Tensor:
    return values.permute(0, 3, 1, 2)


def stored(values: Tensor) -> Tensor:
    return values.permute(0, 2, 3, 1)


def symmetric_window(random: Randomness) -> tuple[Window, tuple[int, int, int]]:
    """A window with torch's symmetric padding, and a value that it fits on."""
    size, stride = ((random.integer(1, 4), random.integer(1, 4)) for _ in range(2))
    pads = [random.integer(0, edge // 2) for edge in size]
    shape = (random.integer(size[0], 9), random.integer(size[1], 9), random.integer(1, 4))
    return Window(size, stride, ((pads[0], pads[0]), (pads[1], pads[1]))), shape


def any_window(random: Randomness) -> tuple[Window, tuple[int, int, int]]:
    """A window with any padding below its size."""
    window, shape = symmetric_window(random)
    (above, below), (left, right) = ((random.integer(0, edge - 1), random.integer(0, edge - 1)) for edge in window.size)
    return Window(window.size, window.stride, ((above, below), (left, right))), shape


def naive_pool(codes: np.ndarray, window: Window, kind: str) -> np.ndarray:
    """Largest or average code of each window, position by position; the average in exact integers."""
    channels = codes.shape[2]
    rows, columns = window.positions(codes.shape)
    result = np.zeros((rows, columns, channels), np.int64)
    for row in range(rows):
        for column in range(columns):
            top, left = row * window.stride[0] - window.padding[0][0], column * window.stride[1] - window.padding[1][0]
            part = codes[max(top, 0) : top + window.size[0], max(left, 0) : left + window.size[1]].reshape(-1, channels)
            if kind == "max":
                result[row, column] = part.max(0)
            else:
                total, half = part.sum(0), len(part) // 2
                result[row, column] = np.sign(total) * ((np.abs(total) + half) // len(part))
    return result


@pytest.mark.parametrize("seed", range(60))
def test_the_largest_codes_are_those_of_the_kernel(seed: int) -> None:
    random = Randomness(seed)
    window, shape = any_window(random) if seed % 2 else symmetric_window(random)
    graph = chain(shape, MaxPool(window))
    deployed = Deployed.of(graph, {INPUT: random.range(), graph.output: (0.0, 0.0)})
    codes = random.codes(8, shape)
    assert deployed.differing_codes(codes) == 0
    simulated = deployed.quantized.operators[graph.output].forward(torch.from_numpy(codes.astype(np.float32)))
    assert np.array_equal(simulated[0], naive_pool(codes[0].astype(np.int64), window, "max"))


@pytest.mark.parametrize("seed", range(60))
def test_average_codes_are_those_of_the_kernel(seed: int) -> None:
    random = Randomness(seed)
    window, shape = any_window(random) if seed % 2 else symmetric_window(random)
    graph = chain(shape, AveragePool(window))
    deployed = Deployed.of(graph, {INPUT: random.range(), graph.output: (0.0, 0.0)})
    assert deployed.differing_codes(random.codes(8, shape)) == 0


def test_averages_without_padding_are_those_of_the_kernel_where_it_has_them() -> None:
    random = Randomness(7)
    compared = 0
    for _ in range(200):
        window, shape = any_window(random)
        graph = chain(shape, AveragePool(window, counts_padding=False))
        if not (window.is_same(shape) or window.is_valid(shape)):
            with pytest.raises(ValueError, match="without its padding"):
                AveragePool(window, counts_padding=False).output_shape(shape)
            continue
        compared += 1
        deployed = Deployed.of(graph, {INPUT: random.range(), graph.output: (0.0, 0.0)})
        codes = random.codes(4, shape)
        assert deployed.differing_codes(codes) == 0
        simulated = deployed.quantized.operators[graph.output].forward(torch.from_numpy(codes.astype(np.float32)))
        assert np.array_equal(simulated[1], naive_pool(codes[1].astype(np.int64), window, "average"))
    assert compared > 40


@pytest.mark.parametrize("seed", range(40))
def test_pools_in_float_are_those_of_torch(seed: int) -> None:
    random = Randomness(seed)
    window, shape = symmetric_window(random)
    samples = random.normal(3, *shape)
    padding = tuple(before for before, _ in window.padding)
    largest = F.max_pool2d(images(samples), window.size, window.stride, padding)
    average = F.avg_pool2d(images(samples), window.size, window.stride, padding)
    uncounted = F.avg_pool2d(images(samples), window.size, window.stride, padding, count_include_pad=False)
    cases = [(MaxPool(window), largest), (AveragePool(window), average)]
    if window.is_same(shape) or window.is_valid(shape):
        cases.append((AveragePool(window, counts_padding=False), uncounted))
    for operator, expected in cases:
        graph = chain(shape, operator)
        assert torch.allclose(graph.forward(samples), stored(expected), atol=1e-6)
        assert float_gap(graph, samples) < 1e-6


@pytest.mark.parametrize(
    ("operator", "shape", "expected"),
    [
        (MaxPool(Window((2, 2), (2, 2))), (8, 8, 1), ["MAX_POOL_2D"]),
        (MaxPool(Window((3, 3), (1, 1), ((1, 1), (1, 1)))), (8, 8, 1), ["MAX_POOL_2D"]),
        (MaxPool(Window((3, 3), (2, 2), ((1, 1), (1, 1)))), (7, 7, 1), ["MAX_POOL_2D"]),
        (MaxPool(Window((3, 3), (2, 2), ((1, 1), (1, 1)))), (8, 8, 1), ["PADV2", "MAX_POOL_2D"]),
        (MaxPool(Window((3, 3), (2, 2), ((0, 1), (0, 1)))), (8, 8, 1), ["MAX_POOL_2D"]),
        (MaxPool(Window((3, 1), (1, 1), ((1, 1), (0, 0)))), (8, 8, 1), ["MAX_POOL_2D"]),
        (MaxPool(Window((3, 3), (1, 1), ((1, 1), (0, 0)))), (8, 8, 1), ["PADV2", "MAX_POOL_2D"]),
        (AveragePool(Window((3, 3), (1, 1), ((1, 1), (1, 1)))), (8, 8, 1), ["PAD", "AVERAGE_POOL_2D"]),
        (AveragePool(Window((2, 2), (2, 2), ((0, 1), (0, 1)))), (8, 8, 1), ["AVERAGE_POOL_2D"]),
    ],
)
def test_a_padding_of_its_own_only_where_the_kernel_has_none(
    operator: MaxPool | AveragePool, shape: tuple[int, int, int], expected: list[str]
) -> None:
    assert kinds(chain(shape, operator)) == expected


def test_only_rows_that_are_read_are_padded() -> None:
    window = Window((3, 3), (2, 2), ((1, 1), (1, 1)))
    assert window.read_padding((8, 8, 1)) == ((1, 0), (1, 0))
    assert window.read_padding((7, 7, 1)) == ((1, 1), (1, 1))
    assert window.positions((8, 7, 1)) == (4, 4)


def test_pools_share_the_parameters_of_their_input() -> None:
    affine = Affine(0.1, 3)
    for operator in (MaxPool(Window((2, 2), (2, 2))), AveragePool(Window((2, 2), (2, 2))), Pad(((1, 0),))):
        assert operator.quantize([affine], Ranges((0.0, 1.0), {}), Scheme())[1] is affine


@pytest.mark.parametrize("shape", [(4, 3), (1, 4, 3), (4, 1, 3)])
def test_windows_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="window"):
        MaxPool(Window((2, 2), (1, 1))).output_shape(shape)


@pytest.mark.parametrize("fill", ["zero", "lowest"])
@pytest.mark.parametrize("seed", range(30))
def test_padding_is_that_of_the_kernel(seed: int, fill: Fill) -> None:
    random = Randomness(seed)
    shape = tuple(random.integer(1, 5) for _ in range(random.integer(1, 3)))
    pad = Pad(tuple((random.integer(0, 2), random.integer(0, 2)) for _ in shape), fill)
    graph = chain(shape, pad)
    deployed = Deployed.of(graph, {INPUT: random.range(), graph.output: (0.0, 0.0)})
    codes = random.codes(8, shape)
    assert deployed.differing_codes(codes) == 0
    simulated = deployed.quantized.operators[graph.output].forward(torch.from_numpy(codes.astype(np.float32)))
    value = deployed.quantized.input.zero_point if fill == "zero" else -128
    assert np.array_equal(simulated, np.pad(codes, ((0, 0), *pad.padding), constant_values=value))


def test_padding_in_float() -> None:
    samples = Randomness(0).normal(3, 4, 5, 2)
    for fill, value in (("zero", 0.0), ("lowest", LOWEST_FLOAT)):
        graph = chain((4, 5, 2), Pad(((1, 2), (0, 3), (0, 0)), "lowest" if fill == "lowest" else "zero"))
        expected = F.pad(samples, (0, 0, 0, 3, 1, 2), value=value)
        assert torch.equal(graph.forward(samples), expected)
        assert float_gap(graph, samples) == 0.0


def test_padding_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="axes"):
        Pad(((1, 1),)).output_shape((4, 4))
    with pytest.raises(ValueError, match="negative"):
        Pad(((1, -1),)).output_shape((4,))
