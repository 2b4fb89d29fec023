"""From torch modules to the graph: whatever torch does to shapes, the numbers are the same and few are moved."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qanas.layers.sequences import ChannelNorm
from qanas.quantization.graph import Graph, UnsupportedNetworkError
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.convolution import Convolution
from qanas.quantization.operators.dense import Dense
from qanas.quantization.operators.shapes import Reshape, Transpose
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace, trace_shapes


class Function(nn.Module):
    """A network that is a function of its input and of some layers."""

    def __init__(self, function: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleDict(layers)
        self.weight = nn.Parameter(torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def kinds(graph: Graph) -> list[type[Operator]]:
    return [type(node.operator) for node in graph.nodes]


def same_as_torch(network: nn.Module, shape: tuple[int, ...]) -> Graph:
    """Trace, and hold the graph's outputs against torch's."""
    network = network.eval()
    graph = trace(network, shape)
    inputs = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(inputs)
    outputs = graph.forward(inputs)
    assert outputs.shape == expected.shape
    assert torch.allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    return graph


# Which numbers are moved


def shuffled(x: Tensor, groups: int) -> Tensor:
    """The channel shuffle of Zhang et al. 2018."""
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


def conv(inputs: int = 4, outputs: int = 6, **options: Any) -> nn.Module:  # noqa: ANN401 - passed on
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


MOVES_NOTHING: dict[str, tuple[nn.Module, list[type[Operator]]]] = {
    "convolutions": (nn.Sequential(conv(), conv(6, 2)), [Convolution, Convolution]),
    "a head behind a flatten": (nn.Sequential(conv(), nn.Flatten(), nn.Linear(180, 2)), [Convolution, Reshape, Dense]),
    "a head behind a view": (
        Function(lambda m, x: m.layers.head(m.layers.conv(x).view(x.size(0), -1)), conv=conv(), head=nn.Linear(180, 2)),
        [Convolution, Reshape, Dense],
    ),
    "a linear layer over channels": (
        Function(lambda m, x: m.layers.b(m.layers.a(x).permute(0, 2, 3, 1)), a=conv(), b=nn.Linear(6, 2)),
        [Convolution, Dense],
    ),
    "a shuffle between convolutions": (
        Function(lambda m, x: m.layers.b(shuffled(m.layers.a(x), 2)), a=conv(), b=conv(6, 2)),
        [Convolution, Convolution],
    ),
    "a shuffle before a convolution by channel": (
        Function(
            lambda m, x: m.layers.c(m.layers.b(shuffled(m.layers.a(x), 3))),
            a=conv(),
            b=conv(6, 12, groups=6),
            c=conv(12, 2),
        ),
        [Convolution] * 3,
    ),
    "a shuffle before a batch norm": (
        Function(
            lambda m, x: m.layers.b(shuffled(m.layers.norm(m.layers.a(x)), 2)),
            a=conv(),
            norm=nn.BatchNorm2d(6),
            b=conv(6, 6),
        ),
        [Convolution, Convolution],
    ),
    "two shuffles": (
        Function(lambda m, x: m.layers.b(shuffled(shuffled(m.layers.a(x), 2), 2)), a=conv(4, 8), b=conv(8, 2)),
        [Convolution, Convolution],
    ),
}


def with_random_weights(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.empty_like(tensor).uniform_(0.2, 1.0, generator=generator))
    return network


@pytest.mark.parametrize("name", MOVES_NOTHING)
def test_weights_take_the_order_of_the_numbers(name: str) -> None:
    network, expected = MOVES_NOTHING[name]
    graph = same_as_torch(with_random_weights(network), (4, 6, 5))
    assert kinds(graph) == expected
    assert graph.input_shape == (6, 5, 4)
    assert graph.border.input.axes == (1, 2, 0)


def sum_with_shuffled(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    y: Tensor = network.layers.a(x)
    return y + shuffled(y, 2)


def two_of_one(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    y = network.layers.a(x).transpose(1, 2)
    total: Tensor = network.layers.b(y) + network.layers.c(y)
    return total


MOVES: dict[str, tuple[nn.Module, int]] = {
    "a flattened image as output": (nn.Sequential(conv(), nn.Flatten()), 1),
    "shuffled channels as output": (Function(lambda m, x: shuffled(m.layers.a(x), 2), a=conv()), 0),
    "a shuffle before groups": (
        Function(lambda m, x: m.layers.b(shuffled(m.layers.a(x), 3)), a=conv(), b=conv(6, 2, groups=2)),
        0,
    ),
    "an addition of shuffled channels": (
        Function(sum_with_shuffled, a=conv()),
        1,
    ),
    "rows as channels": (
        Function(lambda m, x: m.layers.b(m.layers.a(x).transpose(1, 2)), a=conv(), b=conv(6, 2)),
        1,
    ),
    "one arrangement for two": (
        Function(
            two_of_one,
            a=conv(),
            b=conv(6, 2),
            c=conv(6, 2),
        ),
        1,
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_numbers_are_moved_once_where_they_must_be(name: str) -> None:
    network, transposes = MOVES[name]
    shape = (4, 6, 6) if "rows" in name or "one arr" in name else (4, 6, 5)
    graph = same_as_torch(with_random_weights(network), shape)
    assert kinds(graph).count(Transpose) == transposes


def test_rows_as_output_are_the_borders_business() -> None:
    graph = same_as_torch(Function(lambda m, x: m.layers.a(x).permute(0, 3, 1, 2), a=conv()), (4, 6, 5))
    assert kinds(graph) == [Convolution]
    assert graph.border.output.axes == (2, 0, 1)


def test_an_image_of_one_channel_is_stored_with_it_last() -> None:
    graph = same_as_torch(conv(1, 1), (1, 6, 5))
    assert graph.border.input.axes == graph.border.output.axes == (1, 2, 0)
    assert graph.input_shape == (6, 5, 1)


@st.composite
def views(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[str, Any]]]:
    """A shape, and what is done to it one after the other."""
    shape = [draw(st.sampled_from([1, 2, 3, 4, 6])) for _ in range(draw(st.integers(1, 4)))]
    start = tuple(shape)
    steps: list[tuple[str, Any]] = []
    for _ in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(["permute", "view", "slice", "relu", "add", "flatten", "linear"]))
        if kind == "permute":
            order = draw(st.permutations(range(len(shape))))
            shape = [shape[axis] for axis in order]
            steps.append((kind, (0, *(axis + 1 for axis in order))))
        elif kind == "view":
            total = int(torch.tensor(shape).prod())
            new: list[int] = []
            while total > 1 and len(new) < 4:
                new.append(draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0])))
                total //= new[-1]
            shape = [*new, total]
            steps.append((kind, tuple(shape)))
        elif kind == "flatten" and len(shape) > 1:
            first = draw(st.integers(0, len(shape) - 2))
            shape[first : first + 2] = [shape[first] * shape[first + 1]]
            steps.append((kind, (first + 1, first + 2)))
        elif kind == "slice":
            axis = draw(st.integers(0, len(shape) - 1))
            first = draw(st.integers(0, shape[axis] - 1))
            part = slice(first, None, draw(st.integers(1, 2)))
            shape[axis] = len(range(shape[axis])[part])
            steps.append((kind, (slice(None),) * (axis + 1) + (part,)))
        elif kind in {"relu", "add", "linear"}:
            steps.append((kind, shape[-1]))
    return start, steps


class Views(nn.Module):
    def __init__(self, steps: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList(nn.Linear(n, n) if kind == "linear" else nn.Identity() for kind, n in steps)

    def forward(self, x: Tensor) -> Tensor:
        earlier = [x]
        for (kind, argument), layer in zip(self.steps, self.layers, strict=True):
            if kind == "permute":
                x = x.permute(argument)
            elif kind == "view":
                x = x.reshape(x.shape[0], *argument)
            elif kind == "flatten":
                x = torch.flatten(x, *argument)
            elif kind == "slice":
                x = x[argument]
            elif kind == "relu":
                x = torch.relu(x)
            elif kind == "linear":
                x = layer(x)
            else:
                # The sum of a value and itself in whatever order it was in before.
                x = x + layer(x)
            earlier.append(x)
        return x


@settings(deadline=None, max_examples=100, derandomize=True)
@given(plan=views())
def test_any_chain_of_views_gives_what_torch_gives(plan: tuple[tuple[int, ...], list[tuple[str, Any]]]) -> None:
    shape, steps = plan
    torch.manual_seed(0)
    same_as_torch(Views(steps), shape)


class Reordered(nn.Module):
    """Two ways to one shape, added up."""

    def __init__(self, one: tuple[int, ...], other: tuple[int, ...], order: tuple[int, ...]) -> None:
        super().__init__()
        self.one, self.other, self.order = one, other, order

    def forward(self, x: Tensor) -> Tensor:
        def way(shape: tuple[int, ...]) -> Tensor:
            return torch.relu(x).reshape(1 * x.shape[0], *shape).permute(self.order).flatten(1)

        return way(self.one) + way(self.other)


@pytest.mark.parametrize("order", [(0, 3, 1, 2), (0, 2, 1, 3), (0, 3, 2, 1)])
@pytest.mark.parametrize(("one", "other"), [((2, 3, 4), (2, 3, 4)), ((2, 6, 2), (4, 3, 2)), ((2, 3, 4), (3, 2, 4))])
def test_values_taken_apart_in_different_ways_are_added_in_one(
    one: tuple[int, ...], other: tuple[int, ...], order: tuple[int, ...]
) -> None:
    same_as_torch(Reordered(one, other, order), (24,))


# What traced code may look like


def sizes_taken_apart(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    batch, _, height, width = x.size()
    y: Tensor = network.layers.conv(x)
    return y.reshape(batch, 6, height * width)


def both_halves(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    one, other = network.layers.conv(x).chunk(2, 1)
    total: Tensor = one + other
    return total


def sum_with_itself(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    y: Tensor = network.layers.conv(x)
    return y + y


LIKE_TORCH: dict[str, Callable[[Any, Tensor], object]] = {
    "sizes taken apart": sizes_taken_apart,
    "a size by name": lambda m, x: m.layers.conv(x).flatten(start_dim=1),
    "an axis from the back": lambda m, x: m.layers.conv(x).transpose(-1, -2),
    "a permutation in one argument": lambda m, x: torch.permute(m.layers.conv(x), (0, 2, 3, 1)),
    "unsqueezed and squeezed": lambda m, x: m.layers.conv(x).unsqueeze(1).squeeze(dim=1),
    "an index with dots": lambda m, x: m.layers.conv(x)[..., 1:3],
    "an index with a new axis": lambda m, x: m.layers.conv(x)[:, None, 2],
    "a narrow": lambda m, x: torch.narrow(m.layers.conv(x), 1, 2, 3),
    "a select": lambda m, x: m.layers.conv(x).select(2, -1),
    "half of the channels": lambda m, x: torch.chunk(m.layers.conv(x), 2, dim=1)[1],
    "both halves": both_halves,
    "parts of some sizes": lambda m, x: torch.split(m.layers.conv(x), [1, 2, 3], dim=1)[2],
    "parts of one size": lambda m, x: m.layers.conv(x).split(4, 1)[1],
    "every row": lambda m, x: m.layers.conv(x).unbind(2)[1],
    "an unflatten": lambda m, x: m.layers.conv(x).unflatten(1, (2, -1)),
    "a convolution with a parameter": lambda m, x: F.conv2d(x, m.weight, stride=2, padding=(1, 0)),
    "a convolution with a computed weight": lambda m, x: F.conv2d(input=x, weight=0.5 * m.weight.flip(3)),
    "an addition in place": lambda m, x: m.layers.conv(x).add_(m.layers.other(x)),
    "a sum with itself": sum_with_itself,
    "a clamp": lambda m, x: torch.clamp(m.layers.conv(x), min=0.0, max=6.0),
    "a hardtanh": lambda m, x: F.hardtanh(m.layers.conv(x), 0.0, 6.0),
    "relu behind relu6": lambda m, x: torch.relu(F.relu6(m.layers.conv(x))),
    "dropout": lambda m, x: F.dropout(m.layers.conv(x), 0.5, training=m.training),
    "the input alone": lambda _, x: x,
    "the input in another order": lambda _, x: x.permute(0, 2, 3, 1),
}


@pytest.mark.parametrize("name", LIKE_TORCH)
def test_what_traced_code_may_look_like(name: str) -> None:
    torch.manual_seed(0)
    same_as_torch(Function(LIKE_TORCH[name], conv=conv(), other=conv()), (4, 6, 5))


@pytest.mark.parametrize("network", [nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Identity())])
def test_a_network_may_be_a_single_layer(network: nn.Module) -> None:
    same_as_torch(network, (4,))


@pytest.mark.parametrize("read", ["output", "last step", "hidden state"])
@pytest.mark.parametrize("layers", [1, 2])
def test_torchs_lstm_is_taken_layer_by_layer(read: str, layers: int) -> None:
    def function(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
        outputs, (hidden, _) = network.layers.lstm(x)
        values: dict[str, Callable[[], Tensor]] = {
            "output": lambda: outputs,
            "last step": lambda: outputs[:, -1],
            "hidden state": lambda: hidden[-1],
        }
        return values[read]()

    lstm = nn.LSTM(3, 5, layers, batch_first=True)
    graph = same_as_torch(Function(function, lstm=lstm), (7, 3))
    assert len(graph.nodes) == layers + (read != "output")


def test_an_lstm_over_the_rows_of_an_image_reads_them_as_they_are_stored() -> None:
    def function(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
        rows = network.layers.conv(x).permute(0, 2, 3, 1).flatten(2)
        output: Tensor = network.layers.lstm(rows)[0]
        return output

    network = Function(function, conv=conv(), lstm=nn.LSTM(30, 4, batch_first=True))
    assert Transpose not in kinds(same_as_torch(network, (4, 6, 5)))


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norms_of_every_kind_are_folded(affine: bool) -> None:
    torch.manual_seed(0)
    image = nn.Sequential(conv(), nn.BatchNorm2d(6, affine=affine), nn.ReLU6())
    sequence = nn.Sequential(nn.Conv1d(4, 3, 2), nn.BatchNorm1d(3, affine=affine))
    flat = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, affine=affine), nn.ReLU())
    last = nn.Sequential(nn.Linear(4, 3), ChannelNorm(3, affine=affine))
    for network, shape in ((image, (4, 6, 5)), (sequence, (4, 9)), (flat, (4,)), (last, (2, 4))):
        graph = same_as_torch(with_random_weights(network), shape)
        assert sum(kind in {Convolution, Dense} for kind in kinds(graph)) == 1
        assert all(kind in {Convolution, Dense, Reshape} for kind in kinds(graph))


# What is refused


REFUSED: dict[str, tuple[Callable[[Any, Tensor], object], str]] = {
    "an unknown method": (lambda _, x: x.lgamma(), r"lgamma has no operator; .* \(test_tracing.py, line"),
    "an unknown function": (lambda _, x: torch.lgamma(x), "lgamma has no operator"),
    "a reshape over the batch": (lambda _, x: x.reshape(4, -1), "joined to the batch"),
    "a flatten over the batch": (lambda _, x: torch.flatten(x), "joined to the batch"),
    "a permutation of the batch": (lambda _, x: x.permute(1, 0, 2, 3), "the batch is axis 1"),
    "a transposition of the batch": (lambda _, x: x.transpose(0, 1), "the batch is axis 1"),
    "an expansion of the batch": (lambda _, x: x.expand(3, -1, -1, -1), "the batch stays"),
    "positions of largest values": (lambda _, x: x.argmax(1), "return the scores, and take argmax outside"),
    "a spectrum": (lambda _, x: torch.fft.rfft(x).abs(), "a conv1d with cosines and sines"),
    "kernels of each sample's own": (
        lambda _, x: F.conv2d(
            x.reshape(1, -1, 6, 5), (x.mean((2, 3)) @ torch.ones(4, 72)).reshape(-1, 4, 3, 3), groups=len(x)
        ),
        "convolve with every expert, and weigh what comes out",
    ),
    "a guard on numbers": (lambda _, x: x if torch.isnan(x).any() else -x, "leave the check to whoever calls"),
    "noise": (lambda _, x: x + torch.randn_like(x), "a file computes the same each time"),
    "positions that depend on the input": (lambda _, x: x.gather(1, x), "take constant ones"),
    "positions that differ": (lambda _, x: x.gather(1, torch.arange(120).view(1, 4, 6, 5) % 4), "index_select"),
    "positions of three axes": (lambda _, x: x[:, [0], [1], [2]], r"the index \[:, \[0\], \[1\], \[2\]\]; take a list"),
    "rows without columns": (
        lambda _, x: x[:, torch.arange(3), torch.arange(2)],
        r"\[:, a tensor of shape \(3,\), a tensor of shape \(2,\)\]; take lists of rows and columns",
    ),
    "rows that aren't there": (lambda _, x: x[:, torch.tensor([4]), torch.tensor([0])], "of axes of 4 and 6"),
    "a norm of matrices": (lambda _, x: torch.linalg.norm(x, 2, (2, 3)), "take ord = 'fro'"),
    "a missing axis": (lambda _, x: x.transpose(1, 4), "axis 4 of a value of 4 axes"),
    "an option that is not known": (lambda _, x: x.transpose(1, 2, copy=True), "copy"),  # type: ignore[call-arg]
    "an attribute that is not known": (lambda m, x: m.layers.conv(x.imag), "the attribute imag of a value"),
    "channels that don't fit": (lambda m, x: m.layers.conv(x[:, 1:]), "a convolution of 4 channels got 3"),
    "an image that is too small": (lambda m, x: m.layers.valid(x[:, :, :2]), "a window of 3 x 3 on"),
    "shapes that don't match": (lambda _, x: x + x[:, :, :2], "sizes must be equal or 1"),
    "a clamp to nothing": (lambda _, x: x.clamp(2.0, 1.0), "a clamp from 2.0 to 1.0"),
    "weights that are values": (lambda _, x: F.linear(x, x[0, 0]), "batch"),
    "parts that don't add up": (lambda _, x: torch.split(x, [1, 1], 1)[0], r"parts of \[1, 1\] of an axis of 4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_covered_is_refused_with_the_way_out(name: str) -> None:
    function, message = REFUSED[name]
    layers = {"conv": conv(), "valid": nn.Conv2d(4, 1, 3), "pool": nn.LPPool2d(2, 2)}
    with pytest.raises(UnsupportedNetworkError, match=message):
        trace(Function(function, **layers), (4, 6, 5))


def test_an_lstm_with_the_time_in_front_of_the_batch_is_refused() -> None:
    with pytest.raises(UnsupportedNetworkError, match="take batch_first = True"):
        trace(Function(lambda m, x: m.layers.lstm(x)[0], lstm=nn.LSTM(3, 4)), (7, 3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, x: m.layers.lstm(x)[1][1][0], None),
        (lambda m, x: m.layers.lstm(x)[1][1], "the batch is not in front"),
        (lambda m, x: m.layers.lstm(x)[1][0][0:1], "the batch is not in front"),
        (lambda m, x: m.layers.lstm(x, None)[0], None),
        (lambda m, x: m.layers.lstm(x), "the batch is not in front"),
    ],
)
def test_states_of_an_lstm(function: Callable[[Any, Tensor], object], message: str | None) -> None:
    network = Function(function, lstm=nn.LSTM(3, 4, batch_first=True))
    if message is None:
        same_as_torch(network, (7, 3))
    else:
        with pytest.raises(UnsupportedNetworkError, match=message):
            trace(network, (7, 3))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("convert", [False, True])
def test_what_torch_has_quantized_is_refused_for_the_float_network(convert: bool) -> None:
    quantization: Any = torch.ao.quantization
    network: Any = nn.Sequential(quantization.QuantStub(), nn.Linear(4, 3), nn.ReLU())
    network.qconfig = quantization.get_default_qconfig("qnnpack")
    trace(network.eval(), (4,))  # stubs change nothing
    prepared = quantization.prepare(network)
    prepared(torch.randn(8, 4))
    refused = quantization.convert(prepared) if convert else prepared
    with pytest.raises(UnsupportedNetworkError, match=r"0.*give the float network that it was made from"):
        trace(refused, (4,))


def test_a_float_network_that_is_ready_for_torchs_quantization_is_taken() -> None:
    def function(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
        joined: Tensor = network.layers.sums.cat([network.layers.sums.add_relu(network.layers.linear(x), x), x], 1)
        return joined

    sums = torch.ao.nn.quantized.FloatFunctional()
    same_as_torch(Function(function, linear=nn.Linear(4, 4), sums=sums), (4,))


def test_an_lstm_is_fused_as_long_as_nobody_reads_its_cell() -> None:
    lstms = {"fused": nn.LSTM(3, 4, batch_first=True), "read": nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True)}

    def function(network: Any, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - a `Function`
        output, (_, cell) = network.layers.read(network.layers.fused(x)[0])
        return output, cell.transpose(0, 1)

    network = Function(function, **lstms).eval()
    graph, samples = trace(network, (5, 3)), torch.randn(4, 5, 3)
    assert [type(node.operator).__name__ for node in graph.nodes].count("LSTM") == 1
    computed = graph.forward({graph.border.input_names[0]: samples})
    for wanted, got in zip(network(samples), computed.values(), strict=True):
        torch.testing.assert_close(got, wanted)


def test_further_operators_of_a_call_are_numbered() -> None:
    names = [node.name for node in trace(Function(lambda _, x: x.cumsum(1).roll(1, 1).roll(2, 2)), (4, 6)).nodes]
    assert any(name.endswith("__3") for name in names)
    assert not any(name.endswith("_") for name in names)


def test_a_function_inside_a_layer_is_named_by_the_layers_path() -> None:
    network = nn.Sequential(nn.Identity(), nn.Sequential(Function(lambda _, x: torch.lgamma(x))))
    with pytest.raises(UnsupportedNetworkError, match=r"^1\.0: lgamma"):
        trace(network, (4,))


def test_shapes_alone_give_the_same_graph() -> None:
    for network, _ in MOVES_NOTHING.values():
        whole = trace(network.eval(), (4, 6, 5))
        shapes = trace_shapes(lambda network=network: network, (4, 6, 5))  # type: ignore[misc]
        assert shapes.shapes == whole.shapes
        assert kinds(shapes) == kinds(whole)


class LeavesTorch(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return torch.from_numpy(inputs.numpy())


class Branches(nn.Module):
    """Takes another way by what the numbers are."""

    def forward(self, inputs: Tensor) -> Tensor:
        return -inputs if inputs.mean((1, 2)).relu()[0] else inputs


class Leaves(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:  # noqa: ARG002
        raise SystemExit("no forward\n at all")


class GoesOnAnyway(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        try:
            return torch.lgamma(inputs)
        except Exception:  # noqa: BLE001 - as some code has it
            return inputs


@pytest.mark.parametrize("network", [LeavesTorch(), Branches(), Leaves(), GoesOnAnyway()])
def test_code_that_values_do_not_pass_is_told_in_one_line_with_its_place(network: nn.Module) -> None:
    with pytest.raises(UnsupportedNetworkError, match=f"{type(network).__name__}: .*test_tracing.py, line") as caught:
        trace(network, (3, 4))
    assert "\n" not in str(caught.value)


# What is computed while it is traced


def checked_sizes(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    batch, channels, height, width = x.shape  # noqa: RUF059 - as users write
    assert height == 6, "six rows"
    assert x.dim() == 4
    if channels != 4 or len(x) > 10:
        raise ValueError(f"channels {channels}")
    rows = int(height / 2)
    y: Tensor = network.layers.conv(x)[:, :, :rows]
    return y.view(batch, y.size(1), -1)


def summed_chunks(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    parts = [part + float(number) for number, part in enumerate(network.layers.conv(x).chunk(3, 1))]
    return torch.cat([sum(parts[1:], parts[0]), *x.split(1, dim=1)], 1)  # type: ignore[no-untyped-call]


def step_by_step(_: object, x: Tensor) -> Tensor:
    return torch.stack([x[:, :, row] for row in range(x.shape[2])], 2)


def changed_in_place(network: Any, x: Tensor) -> Any:  # noqa: ANN401 - a `Function`
    y = network.layers.conv(x)
    kept = y
    y.relu_()
    y += network.layers.other(x)
    F.relu6(y, inplace=True)
    return y + kept


def only_in_training(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    y: Tensor = network.layers.conv(x)
    if network.training or torch.jit.is_scripting():  # type: ignore[attr-defined]
        y = torch.fft.rfft(y).abs()
    return F.dropout(y, 0.3, network.training)


def as_it_is(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
    y: Tensor = network.layers.conv(x.float().to("cpu").type(torch.float32).to(network.weight))
    return (y.to(x.device, x.dtype).contiguous(memory_format=torch.channels_last) + torch.zeros_like(y)).type_as(x)


COMPUTED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "sizes": checked_sizes,
    "chunks": summed_chunks,
    "steps": step_by_step,
    "in place": changed_in_place,
    "training": only_in_training,
    "casts": as_it_is,
    "the other way round": lambda m, x: 2.0 - m.layers.conv(x),
    "the time in front": lambda _, x: x.flatten(2).permute(1, 0, 2).relu().squeeze(dim=-1).transpose(0, 1),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_code_sees_sizes_and_changes(name: str) -> None:
    torch.manual_seed(0)
    same_as_torch(Function(COMPUTED[name], conv=conv(), other=conv()), (4, 6, 5))


class Optional(nn.Module):
    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *others: Tensor,
        scale: float = 2.0,
        **rest: Any,  # noqa: ANN401
    ) -> Tensor:
        if mask is not None:
            x = x * mask
        return x * scale + sum(others) if others or rest else x * scale


def test_arguments_that_nobody_gives_have_their_defaults() -> None:
    same_as_torch(Optional(), (4, 3))


def test_time_may_be_in_front_of_an_lstm() -> None:
    def function(network: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `Function`
        outputs, (hidden, _) = network.layers.lstm(x.permute(1, 0, 2), None)
        return torch.cat(
            [outputs[-1], hidden.squeeze(0), hidden.permute(1, 0, 2).flatten(1), hidden.view(len(x), -1)], 1
        )

    same_as_torch(Function(function, lstm=nn.LSTM(3, 5)), (7, 3))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_hooks_patched_forwards_and_norms_of_weights_are_what_torch_runs() -> None:
    torch.manual_seed(0)
    hooked, patched = conv(), conv()
    hooked.register_forward_hook(lambda _, __, output: output.relu() * 2)
    hooked.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1.0,))
    patched.forward = lambda x: nn.Conv2d.forward(patched, x) - 1.0  # type: ignore[arg-type]
    old, new = torch.nn.utils.weight_norm(conv(6, 6)), torch.nn.utils.parametrizations.weight_norm(conv(6, 6))
    spectral = torch.nn.utils.parametrizations.spectral_norm(conv(6, 6))
    graph = same_as_torch(nn.Sequential(nn.Sequential(hooked), old, new, spectral), (4, 6, 5))
    assert {"_0_0", "_1", "_2", "_3"} <= {node.name for node in graph.nodes}
    same_as_torch(nn.Sequential(patched), (4, 6, 5))


def test_what_is_changed_through_a_view_is_not_read_behind_it() -> None:
    def function(_: object, x: Tensor) -> Tensor:
        flat = x.view(len(x), -1)
        flat.relu_()
        return x + 1.0

    with pytest.raises(UnsupportedNetworkError, match="changed in place through another view"):
        trace(Function(function), (4, 3))


def test_a_forward_leaves_no_trace() -> None:
    class Keeps(nn.Module):
        kept: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.kept = x.relu()
            return self.kept

    network = Keeps().train()
    trace(network, (3,))
    assert network.kept is None
    assert network.training


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_wraps_a_network_is_taken_off_and_a_scripted_one_refused() -> None:
    network = nn.Sequential(conv()).eval()
    samples = torch.randn(2, 4, 6, 5)
    for wrapped in (nn.DataParallel(network), torch.compile(network)):
        assert torch.equal(trace(wrapped, (4, 6, 5)).forward(samples), trace(network, (4, 6, 5)).forward(samples))  # type: ignore[arg-type]
    for scripted in (torch.jit.script(network), nn.Sequential(torch.jit.script(conv()))):
        with pytest.raises(UnsupportedNetworkError, match=r"export the.* module that it was made from"):
            trace(scripted, (4, 6, 5))


class TwiceBounded(nn.Module):
    """A sum or a product behind which two activations follow; the first one is the narrower."""

    def __init__(self, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.combine = combine

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(nn.functional.relu6(self.combine(inputs, inputs)))


@pytest.mark.parametrize("combine", [torch.add, torch.mul])
def test_a_second_activation_does_not_replace_the_first(combine: Callable[[Tensor, Tensor], Tensor]) -> None:
    network = TwiceBounded(combine)
    inputs = torch.linspace(-9.0, 9.0, 24).reshape(2, 3, 4)
    graph = trace(network, (3, 4))
    assert len(graph.nodes) == 1, "both are fused"
    assert torch.equal(graph.forward(inputs), network(inputs))
    assert graph.forward(inputs).max() == 6.0


class Looking(nn.Module):
    """Attention that looks back, its mask a buffer."""

    def __init__(self, filled: bool) -> None:
        super().__init__()
        self.inner, self.filled = nn.Linear(8, 8), filled
        self.register_buffer("mask", torch.ones(6, 6).tril())
        self.register_buffer("added", torch.full((6, 6), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        scores = y @ y.mT
        scores = scores.masked_fill(self.mask == 0, -torch.inf) if self.filled else scores + self.added
        found: Tensor = scores.softmax(-1) @ y
        return found


@pytest.mark.parametrize("filled", [True, False])
def test_a_mask_costs_the_same_before_its_buffer_is_filled(filled: bool) -> None:
    graphs = trace(Looking(filled).eval(), (6, 8)), trace_shapes(lambda: Looking(filled), (6, 8))
    kinds, others = (
        [operator.kind for operator in QuantizedGraph.from_shapes(graph, Scheme()).program().operators]
        for graph in graphs
    )
    assert kinds == others
    assert "SOFTMAX" in kinds
