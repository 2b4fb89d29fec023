"""What torch has, a call a line."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from tests.quantization.functions import Layered

IMAGE, SERIES, VECTOR = (4, 6, 5), (3, 12), (6,)


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` as it is called."""

    def __init__(self, **masks: Tensor) -> None:
        super().__init__()
        self.attention, self.masks = nn.MultiheadAttention(12, 3, batch_first=True), masks

    def forward(self, x: Tensor) -> Tensor:
        masks = {name: mask.expand(len(x), -1) if "key" in name else mask for name, mask in self.masks.items()}
        found: Tensor = self.attention(x, x, x, need_weights=False, **masks)[0]
        return x + found


class Named(nn.Module):
    """A module that is given what it takes by the names that torch has for it."""

    def __init__(self, module: Any, *names: str) -> None:  # noqa: ANN401 - a module
        super().__init__()
        self.module, self.names = module, names

    def forward(self, x: Tensor) -> Tensor:
        found: Any = self.module(**{name: (0.5 + number) * x for number, name in enumerate(self.names)})
        result: Tensor = found[0] if isinstance(found, tuple) else found
        return result


class TimeInFront(nn.Module):
    """Attention and an encoder as torch has them by default, with the time in front; shares are read, too."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.encoder = nn.MultiheadAttention(12, 3), nn.TransformerEncoderLayer(12, 2, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        found, shares = self.attention(x, x, x)
        return torch.cat([self.encoder(x + found).transpose(0, 1), shares], 2)


class Learned(nn.Module):
    """Attention of which a part is learned: queries that look at the input, or keys that it looks at."""

    def __init__(self, attention: nn.Module, read: Callable[[Any, Tensor, Tensor], Tensor], count: int) -> None:
        super().__init__()
        self.attention, self.read, self.learned = attention, read, nn.Parameter(torch.randn(count, 1, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.attention, self.learned.expand(-1, len(x), -1), x)


def pooled(attention: Any, learned: Tensor, x: Tensor) -> Tensor:  # noqa: ANN401 - a module
    found, shares = attention(learned.transpose(0, 1), x, x)
    return torch.cat([found, shares], 2)


class Causal(nn.Module):
    """`nn.TransformerEncoder` that looks back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 2, 20, batch_first=True), 1)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        found: Tensor = self.encoder(x, mask, is_causal=True)
        return found


class Recurrent(nn.Module):
    """A recurrent layer, and what is read of it."""

    def __init__(self, layer: nn.Module, read: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.layer, self.read = layer, read

    def forward(self, x: Tensor) -> Tensor:
        output, state = self.layer(x)
        return self.read(output, state)


class FromStates(nn.Module):
    """A recurrent layer that starts from constants, or from what is made of its input; states are given out, too."""

    def __init__(self, layer: Any, learned: bool) -> None:  # noqa: ANN401 - a recurrent layer
        super().__init__()
        self.layer, self.learned = layer, learned
        places = layer.num_layers * (2 if layer.bidirectional else 1)
        self.states = nn.Parameter(torch.randn(2, places, 1, layer.hidden_size))
        self.made = nn.Linear(layer.input_size, layer.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        states = self.states.expand(-1, -1, len(x), -1)
        hidden, cell = states[0], states[1]
        if not self.learned:
            hidden = torch.stack([self.made(x[:, 0])] * self.states.shape[1])
        output, last = self.layer(x, (hidden, cell) if isinstance(self.layer, nn.LSTM) else hidden)
        parts = last if isinstance(last, tuple) else [last]
        return torch.cat([output.flatten(1), *(part[-1] for part in parts)], 1)


class Decoder(nn.Module):
    """Steps of a cell that start from a constant and from what is made of the input, then from what came out."""

    def __init__(self, cell: Any) -> None:  # noqa: ANN401 - a recurrent cell
        super().__init__()
        self.made, self.cell, self.head = nn.Linear(6, cell.hidden_size), cell, nn.Linear(cell.hidden_size, 2)
        self.start = nn.Parameter(torch.randn(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        state: Any = self.made(x)
        state = (state, torch.zeros_like(state)) if isinstance(self.cell, nn.LSTMCell) else state
        outputs = [self.start.expand(len(x), -1)]
        for _ in range(3):
            state = self.cell(outputs[-1], state)
            outputs.append(self.head(state[0] if isinstance(state, tuple) else state))
        return torch.stack(outputs, 1)


class Answers(nn.Module):
    """An LSTM that starts from the states of another one, and gets nothing but a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answers = nn.LSTM(4, 3, batch_first=True), nn.LSTM(2, 3, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        states = [torch.cat([state, -state]) for state in self.asked(x)[1]]
        found: Tensor = self.answers(torch.ones(len(x), 4, 2), tuple(states))[0]
        return found


class Cells(nn.Module):
    """A cell that is called step by step."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        result: Tensor = state[0] if isinstance(state, tuple) else state
        return result


def given(module: nn.Module) -> Callable[[], nn.Module]:
    return lambda: module


def output_of(output: Tensor, _: object) -> Tensor:
    return output


class Called(nn.Module):
    """A function of a value and a layer's output of the same shape, whose scale is another."""

    def __init__(self, function: Callable[..., Any], channels: int) -> None:
        super().__init__()
        self.function, self.scale = function, nn.Parameter(torch.linspace(0.3, 2.0, channels))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x)
        return result


def numpys_names(x: Any) -> Any:  # noqa: ANN401 - tensors, whose types don't tell these names
    mean: Any = torch.mean
    return x.sum(axis=1, keepdims=True) + mean(input=x, axis=(2,), keepdims=True)


def written_whole(x: Tensor) -> Tensor:
    y = torch.empty_like(x).copy_(0.5 * x)
    y.copy_(y.flip(1))
    return torch.cat([y, (x + 1.0).fill_(0.25), (x + 1.0).zero_()], 1)


def written_where(x: Tensor) -> Tensor:
    y = 0.5 * x
    y[y > 0.4] = 0.2
    return y


def written_in_steps(x: Tensor) -> Tensor:
    made = torch.full((len(x), 3, 7), 0.5)
    made[:, :, ::3] = x[..., :3]
    made[:, 1:, 1:5:2] = x[:, :1, 3:5]
    y = 1.0 * x
    y[..., 1:4:2], y[:, ::2, 0] = 0.25, made[:, :1, 0]
    return torch.cat([made, y], -1)


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    # of one row
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1), SERIES),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, 2, 1), SERIES),
    "avg_pool1d without padding": (lambda x: F.avg_pool1d(x, 4, 2, 1, count_include_pad=False), SERIES),
    "avg_pool1d over all": (lambda x: F.avg_pool1d(x, x.shape[-1]), SERIES),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 4), SERIES),
    "adaptive_avg_pool1d to one": (lambda x: F.adaptive_avg_pool1d(x, 1), SERIES),
    "adaptive_avg_pool1d of another size": (lambda x: F.adaptive_avg_pool1d(x, 5), SERIES),
    "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x, 5), SERIES),
    "interpolated series": (lambda x: F.interpolate(x, scale_factor=2), SERIES),
    "interpolated series, linear": (lambda x: F.interpolate(x, 20, mode="linear"), SERIES),
    "padded series": (lambda x: F.pad(x, (2, 1)), SERIES),
    "padded series with 1": (lambda x: F.pad(x, (2, 1), value=1.0), SERIES),
    "reflected series": (lambda x: F.pad(x, (2, 1), mode="reflect"), SERIES),
    "replicated series": (lambda x: F.pad(x, (2, 1), mode="replicate"), SERIES),
    "circular series": (lambda x: F.pad(x, (2, 1), mode="circular"), SERIES),
    # pools
    "avg_pool2d with ceil_mode": (lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True), IMAGE),
    "avg_pool2d with ceil_mode and padding": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        (4, 7, 6),
    ),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), IMAGE),
    "bicubic to a size, corners aligned": (
        lambda x: F.interpolate(x, (9, 3), mode="bicubic", align_corners=True),
        IMAGE,
    ),
    "bicubic by factors": (lambda x: F.interpolate(x, scale_factor=(1.5, 0.8), mode="bicubic"), IMAGE),
    "bilinear by a factor": (lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear"), IMAGE),
    "bilinear by factors, smaller": (lambda x: F.interpolate(x, scale_factor=(0.7, 0.6), mode="bilinear"), IMAGE),
    "bilinear by a factor, corners": (
        lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear", align_corners=True),
        IMAGE,
    ),
    "nearest by factors": (lambda x: F.interpolate(x, scale_factor=(1.3, 1.7)), IMAGE),
    "nearest by factors, exact": (lambda x: F.interpolate(x, scale_factor=(1.3, 0.6), mode="nearest-exact"), IMAGE),
    "linear by a factor": (lambda x: F.interpolate(x, scale_factor=1.7, mode="linear"), SERIES),
    "a factor that changes positions alone": (lambda x: F.interpolate(x, scale_factor=1.05, mode="bilinear"), IMAGE),
    "bicubic that smooths": (lambda x: F.interpolate(x, (3, 2), mode="bicubic", antialias=True), IMAGE),
    "bilinear that smooths": (lambda x: F.interpolate(x, (3, 8), mode="bilinear", antialias=True), IMAGE),
    "avg_pool2d with a divisor": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), IMAGE),
    "avg_pool2d that leaves its padding out": (lambda x: F.avg_pool2d(x, 4, 2, 1, count_include_pad=False), (4, 9, 9)),
    "max_pool2d with ceil_mode": (lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True), IMAGE),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (4, 3)), IMAGE),
    "adaptive_avg_pool2d in equal steps": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), (4, 6, 7)),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (4, 5)), IMAGE),
    # axes
    "expand": (lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1) * 2.0, IMAGE),
    "expand_as": (lambda x: x.mean((2, 3), keepdim=True).expand_as(x), IMAGE),
    "repeat": (lambda x: x.repeat(1, 2, 1, 3), IMAGE),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), IMAGE),
    "movedim": (lambda x: torch.movedim(x, 1, -1), IMAGE),
    "flip": (lambda x: x.flip(1, 3), IMAGE),
    "roll": (lambda x: torch.roll(x, (1, -2), (2, 3)), IMAGE),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), IMAGE),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), (2, 6, 4)),
    "mT": (lambda x: x.mT, IMAGE),
    # constants
    "cat with zeros": (lambda x: torch.cat([torch.zeros_like(x[:, :1]), x], 1), IMAGE),
    "cat with ones": (lambda x: torch.cat([x, torch.ones_like(x)], 2), IMAGE),
    "a token in front": (lambda x: torch.cat([0.4 * torch.ones_like(x[:, :1]), x], 1), SERIES),
    "a constant that repeats a value": (
        lambda x: x.mean(1, keepdim=True) + torch.arange(3.0).reshape(1, 3, 1),
        SERIES,
    ),
    "mm": (lambda x: torch.mm(x, torch.linspace(-1, 1, 12).reshape(6, 2)), VECTOR),
    "addmm": (lambda x: torch.addmm(torch.ones(2), x, torch.linspace(-1, 1, 12).reshape(6, 2)), VECTOR),
    "matmul with a constant": (lambda x: x @ torch.linspace(-1, 1, 24).reshape(12, 2), SERIES),
    "matmul with a constant for each channel": (lambda x: x @ torch.linspace(-1, 1, 60).reshape(4, 5, 3), IMAGE),
    "a constant matmul for one axis": (
        lambda x: torch.linspace(-1, 1, 36).reshape(3, 1, 2, 6) @ x.unsqueeze(1),
        IMAGE,
    ),
    "a constant matmul": (lambda x: torch.linspace(-1, 1, 6).reshape(2, 3) @ x, SERIES),
    "ones between values": (lambda x: torch.cat([x, torch.ones_like(x), 0.5 * x, torch.zeros_like(x), x], 2), IMAGE),
    "a stack with zeros": (lambda x: torch.stack([x, torch.zeros_like(x), 0.5 * x], -1).flatten(-2), SERIES),
    "hstack and dstack": (lambda x: torch.dstack([torch.hstack([x, 0.5 * x]), torch.ones(len(x), 8, 1, 5)]), IMAGE),
    "matmul with a vector": (lambda x: (x @ torch.linspace(-1, 1, 12)).unsqueeze(1) * x.mT, SERIES),
    "a vector matmul": (lambda x: torch.linspace(-1, 1, 6) @ x, IMAGE),
    "matmul of vectors": (lambda x: x @ torch.linspace(-1, 1, 6), VECTOR),
    "baddbmm": (lambda x: torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5, alpha=0.1), SERIES),
    "baddbmm of nothing": (lambda x: torch.baddbmm(torch.empty(1, 1, 1), x, x.mT, beta=0, alpha=0.3), SERIES),
    "triangles": (lambda x: (x @ x.mT).tril(-1) + torch.triu(x @ x.mT, diagonal=2), IMAGE),
    # two values
    "matmul": (lambda x: x @ x.transpose(1, 2), SERIES),
    "matmul of heads": (lambda x: x @ (0.5 * x).transpose(2, 3), IMAGE),
    "causal attention": (lambda x: F.scaled_dot_product_attention(x, 0.5 * x, x.flip(2), is_causal=True), IMAGE),
    "attention with a mask": (
        lambda x: F.scaled_dot_product_attention(x, 0.5 * x, x.flip(2), torch.eye(6).roll(2, 0) + torch.eye(6) > 0),
        IMAGE,
    ),
    "attention with distances": (
        lambda x: F.scaled_dot_product_attention(
            x, x, x, torch.full((6, 6), -torch.inf).triu(1) - 0.1 * torch.arange(6.0)
        ),
        IMAGE,
    ),
    "masked_fill": (lambda x: x.masked_fill(torch.eye(6, 5) > 0, 0.7), IMAGE),
    "a mask by hand": (
        lambda x: (x @ x.mT).masked_fill(torch.tril(torch.ones(6, 6)) == 0, float("-inf")).softmax(-1) @ x,
        IMAGE,
    ),
    "where": (lambda x: torch.where(torch.arange(5) > 2, x, 0.5 * x.flip(3)), IMAGE),
    "scaled_dot_product_attention": (lambda x: F.scaled_dot_product_attention(x, 0.5 * x, x.flip(2)), IMAGE),
    "bmm": (lambda x: torch.bmm(x.transpose(1, 2), x), SERIES),
    "add of a mean": (lambda x: x + x.mean((2, 3), keepdim=True), IMAGE),
    "subtracted mean": (lambda x: x - x.mean(1, keepdim=True), IMAGE),
    "difference from a larger one": (lambda x: x.mean(1, keepdim=True) - x, IMAGE),
    "rsub": (lambda x: 1.0 - x, IMAGE),
    "division": (lambda x: x / (x.abs() + 1.0), IMAGE),
    "maximum": (lambda x: torch.maximum(x, 0.5 * x.flip(1)), IMAGE),
    "minimum": (lambda x: torch.minimum(x, x.mean(1, keepdim=True)), IMAGE),
    "glu": (lambda x: F.glu(x, 1), IMAGE),
    "addcmul": (lambda x: torch.addcmul(x, x, x, value=0.5), IMAGE),
    # conditions
    "comparisons": (lambda x: (x >= 0.1).float() - (x.lt(-1)).type_as(x) + x * (x <= 0.5), IMAGE),
    "comparisons with constants": (
        lambda x: x * (x > torch.linspace(-1, 1, 4).view(4, 1, 1)) * torch.ge(torch.zeros(5), x).float(),
        IMAGE,
    ),
    "comparisons of values": (lambda x: x * (x == F.max_pool2d(x, 3, 1, 1)) + (x > x.flip(1)).float(), IMAGE),
    "comparisons with 0": (lambda x: (F.relu(x) != 0).float() + 2.0 * (F.relu(-x) == 0), IMAGE),
    "conditions together": (
        lambda x: torch.where((x > 0) & ~(x > 1) | (x <= -1), x, 0.5 * x) + ((x > 0) ^ torch.logical_not(x < 0.5)),
        IMAGE,
    ),
    "a condition and a constant one": (lambda x: ((x > 0) & (torch.arange(5) > 2)) * x, IMAGE),
    "a choice of constants": (lambda x: torch.where(x > 0, 0.7, torch.linspace(-1, 1, 5)), IMAGE),
    "masked_fill where a condition holds": (lambda x: x.masked_fill(x < -0.5, 0.3).masked_fill(x > 1, 0.0), IMAGE),
    "writing into all of a value": (written_whole, IMAGE),
    "writing at every second and third position": (written_in_steps, SERIES),
    "writing where a condition holds": (written_where, IMAGE),
    "comparisons of the time in front": (
        lambda x: (x.transpose(0, 1) * (x.transpose(0, 1) > torch.zeros(3, 1, 1))).transpose(0, 1),
        SERIES,
    ),
    # over axes
    "sum": (lambda x: x.sum((2, 3)), IMAGE),
    "sum of the last axis": (lambda x: x.sum(-1, keepdim=True), IMAGE),
    "amax": (lambda x: x.amax((2, 3)), IMAGE),
    "amin": (lambda x: torch.amin(x, 1, keepdim=True), IMAGE),
    "max over an axis": (lambda x: x.max(1)[0], IMAGE),
    "values of max": (lambda x: torch.max(x, 1, keepdim=True).values, IMAGE),
    "var": (lambda x: x.var(1), IMAGE),
    "std": (lambda x: x.std((2, 3), unbiased=False), IMAGE),
    "norm": (lambda x: x.norm(dim=1), IMAGE),
    "normalize": (lambda x: F.normalize(x, dim=1), IMAGE),
    "var_mean": (lambda x: torch.cat(torch.var_mean(x, 1), 1), IMAGE),
    "std_mean": (lambda x: torch.cat(torch.std_mean(x, dim=(2, 3), correction=0, keepdim=True), 1), IMAGE),
    "var_mean of the time in front": (
        lambda x: torch.cat(torch.var_mean(x.transpose(0, 1), 0, keepdim=True), 0).transpose(0, 1),
        SERIES,
    ),
    "linalg.norm": (lambda x: torch.linalg.norm(x, dim=-1, keepdim=True), IMAGE),
    "linalg.norm of matrices": (lambda x: torch.linalg.norm(x, "fro", (2, 3)), IMAGE),
    "vector_norm": (lambda x: torch.linalg.vector_norm(x, dim=(1, 2)), IMAGE),
    "norm of sizes": (lambda x: x.norm(1, 1) + torch.linalg.vector_norm(x, torch.inf, 1), IMAGE),
    "norm of the time in front": (lambda x: x.transpose(0, 1).norm(2, 0), SERIES),
    "cosine_similarity": (lambda x: F.cosine_similarity(x, x.flip(1) + 0.5, 2), IMAGE),
    "cosine_similarity to a constant": (
        lambda x: F.cosine_similarity(x.unsqueeze(1), torch.linspace(-1, 1, 12).view(2, 6), -1),
        VECTOR,
    ),
    "cdist to constants": (lambda x: torch.cdist(x, torch.linspace(-1, 1, 18).reshape(3, 6)), VECTOR),
    "cdist of rows": (lambda x: torch.cdist(x, x.flip(1)[:, :3]), SERIES),
    "cdist from constants, of sizes": (lambda x: torch.cdist(torch.linspace(-1, 1, 24).reshape(2, 12), x, p=1), SERIES),
    "pairwise_distance": (lambda x: F.pairwise_distance(x, 0.5 * x.flip(1), keepdim=True), VECTOR),
    "a mean over one of many axes": (lambda x: x.view(-1, 2, 3, 2, 2, 3, 2).mean(2).flatten(1), (24, 6)),
    # neighbours
    "diff": (lambda x: torch.diff(x, dim=1, prepend=x[:, :1]), SERIES),
    "diff twice": (lambda x: x.diff(2), SERIES),
    "diff of the time in front": (lambda x: x.transpose(0, 1).diff(dim=0).transpose(0, 1), SERIES),
    "fliplr": (torch.fliplr, IMAGE),
    "squeeze of all": (lambda x: x.mean((1, 3), keepdim=True).squeeze() * 2.0, IMAGE),
    "squeeze of all with the time in front": (
        lambda x: x.transpose(0, 1).mean(2, keepdim=True).squeeze().transpose(0, 1),
        SERIES,
    ),
    "expand in front of the batch": (
        lambda x: x.expand(2, -1, -1, -1).permute(1, 0, 2, 3) - torch.linspace(-1, 1, 6).view(1, 2, 3, 1),
        SERIES,
    ),
    "expand with the time in front": (
        lambda x: x.transpose(0, 1).mean(0, keepdim=True).expand(3, -1, -1).transpose(0, 1) - x,
        SERIES,
    ),
    "area": (lambda x: F.interpolate(x, (3, 5), mode="area"), IMAGE),
    "area by a factor": (lambda x: F.interpolate(x, scale_factor=0.7, mode="area"), IMAGE),
    "resized by a factor that is computed anew": (
        lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
        IMAGE,
    ),
    "instance_norm": (lambda x: F.instance_norm(x, weight=torch.linspace(0.5, 2, 4), eps=1e-3), IMAGE),
    "instance_norm with statistics": (
        lambda x: F.instance_norm(x, torch.linspace(-1, 1, 4), torch.linspace(0.5, 2, 4), use_input_stats=False),
        IMAGE,
    ),
    "area of a series": (lambda x: F.interpolate(x, scale_factor=0.25, mode="area"), SERIES),
    "rows and columns": (lambda x: (x @ x.mT)[(slice(None), *torch.triu_indices(3, 3, 1))], SERIES),
    "rows from behind and columns, each with the rest": (lambda x: x[:, [-1, 0, 2], [2, 1, -6]], IMAGE),
    "gather of the last": (lambda x: x.gather(1, torch.full((len(x), 1, 12), 2)), SERIES),
    # arguments by torch's names, and by numpy's
    "named operands": (lambda x: torch.add(input=x, other=x.mul(other=0.5), alpha=2) - x.pow(exponent=2), IMAGE),
    "numpy's names": (numpys_names, IMAGE),
    "named shapes": (lambda x: torch.reshape(input=x, shape=(-1, 4, 30)).permute(dims=(0, 2, 1)).flip(dims=[2]), IMAGE),
    "named tensors": (lambda x: torch.cat(tensors=[x, torch.matmul(input=x, other=x.mT)], dim=3), IMAGE),
    "named bounds": (lambda x: torch.clamp_min(input=x, min=-0.5).clamp_max(max=0.75), IMAGE),
    "named out of order": (lambda x: torch.movedim(x, destination=3, source=1), IMAGE),
    "named queries": (
        lambda x: F.scaled_dot_product_attention(query=x, value=x.flip(2), key=0.5 * x, scale=0.4),
        IMAGE,
    ),
    "named condition": (lambda x: torch.where(condition=torch.arange(5) > 2, other=0.5 * x, input=x), IMAGE),
    "where of a value": (lambda x: x.where(x > 0, 0.5 * x).where(condition=torch.arange(5) > 2, other=-0.3), IMAGE),
    "named order of a norm": (lambda x: torch.linalg.vector_norm(x, ord=2, dim=1, keepdim=True), IMAGE),
    "clone in a memory format": (lambda x: x.clone(memory_format=torch.contiguous_format) * 2.0, IMAGE),
    # single values
    "clamp": (lambda x: x.clamp(-0.5, 1.5), IMAGE),
    "clamp above 0": (lambda x: x.clamp(0.25, 1.5), IMAGE),
    "clamp below 0": (lambda x: x.clamp(max=-0.25), IMAGE),
    "clamp_min": (lambda x: x.clamp_min(-0.3), IMAGE),
    "clamp between constants": (lambda x: x.clamp(torch.linspace(-1, 0, 5), torch.linspace(0, 1, 5)), IMAGE),
    "clamp above values": (lambda x: torch.clamp(x, min=x.mean(1, keepdim=True)), IMAGE),
    "powers of a number": (lambda x: 2**x + torch.pow(torch.tensor(0.5), x), IMAGE),
    "angles": (lambda x: torch.asin(x.clamp(-1, 1)) + torch.acos(x.clamp(-1, 1)) * x, IMAGE),
    "logsumexp": (lambda x: x.logsumexp(2), IMAGE),
    "logsumexp of many": (lambda x: torch.logsumexp(3 * x, dim=(1,), keepdim=True) - x, (40, 3)),
    "nan_to_num": (lambda x: torch.nan_to_num(x, nan=0.0) * 2.0, IMAGE),
    "abs": (torch.abs, IMAGE),
    "square": (lambda x: x**2, IMAGE),
    "root": (lambda x: torch.sqrt(x.abs()), IMAGE),
    "exp": (lambda x: torch.exp(-x), IMAGE),
    "gelu": (F.gelu, IMAGE),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), IMAGE),
    "log_softmax": (lambda x: F.log_softmax(x, 1), IMAGE),
    "batch_norm": (
        lambda x: F.batch_norm(x, torch.linspace(-1, 1, 4), torch.linspace(0.5, 2, 4), torch.ones(4), torch.zeros(4)),
        IMAGE,
    ),
}

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3, 2, 2), IMAGE),
    "ConvTranspose2d with padding": (lambda: nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), IMAGE),
    "ConvTranspose2d, SAME": (lambda: nn.ConvTranspose2d(4, 3, 4, 2, 1), IMAGE),
    "ConvTranspose2d in groups": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2, dilation=2), IMAGE),
    "ConvTranspose2d with a batch norm": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 3, 2, 2, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
        IMAGE,
    ),
    "ConvTranspose2d to a size": (
        lambda: Layered(
            lambda m, x: m["up"](m["down"](x), output_size=x.size()),
            down=nn.Conv2d(4, 3, 3, 2, 1),
            up=nn.ConvTranspose2d(3, 2, 3, 2, 1),
        ),
        IMAGE,
    ),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(3, 4, 4, 2, 1), SERIES),
    "ConvTranspose1d to a size": (
        lambda: Layered(lambda m, x: m["up"](x, output_size=[24]), up=nn.ConvTranspose1d(3, 4, 3, 2, 1)),
        SERIES,
    ),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), SERIES),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 1, 1), SERIES),
    "Upsample of series": (lambda: nn.Upsample(scale_factor=3), SERIES),
    "reflected convolution": (lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), IMAGE),
    "replicated convolution": (lambda: nn.Conv1d(3, 3, 3, padding=1, padding_mode="replicate"), SERIES),
    "batch norm in front": (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3)), IMAGE),
    "batch norm in front of groups": (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2)), IMAGE),
    "batch norm in front of padding": (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, 1, 1)), IMAGE),
    "batch norm in front of a ReLU": (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3)), IMAGE),
    "batch norm behind a ReLU": (lambda: nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)), IMAGE),
    "batch norm of vectors": (lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), VECTOR),
    "batch norm alone": (lambda: nn.BatchNorm1d(6), VECTOR),
    "batch norm of series alone": (lambda: nn.BatchNorm1d(3), SERIES),
    "SyncBatchNorm": (lambda: nn.Sequential(nn.Conv2d(4, 3, 3), nn.SyncBatchNorm(3)), IMAGE),
    "LayerNorm": (lambda: nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 4)), SERIES),
    "LayerNorm alone": (lambda: nn.LayerNorm(12), SERIES),
    "LayerNorm of an image": (lambda: nn.LayerNorm(IMAGE), IMAGE),
    "RMSNorm": (lambda: nn.RMSNorm(12), SERIES),
    "GroupNorm": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.GroupNorm(3, 6), nn.ReLU()), IMAGE),
    "GroupNorm of one": (lambda: nn.GroupNorm(1, 4), IMAGE),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    "InstanceNorm1d with statistics": (lambda: nn.InstanceNorm1d(3, track_running_stats=True), SERIES),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(12, 3, 20, batch_first=True), (7, 12)),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(12, 2, 20, activation="gelu", batch_first=True, norm_first=True),
            2,
            nn.LayerNorm(12),
            enable_nested_tensor=False,
        ),
        (7, 12),
    ),
    "GRU": (lambda: Recurrent(nn.GRU(12, 5, batch_first=True), output_of), SERIES),
    "GRU of two layers": (
        lambda: Recurrent(nn.GRU(4, 6, 2, batch_first=True), lambda _, hidden: hidden[-1]),
        (9, 4),
    ),
    "GRU in both directions": (
        lambda: Recurrent(nn.GRU(4, 3, batch_first=True, bidirectional=True, bias=False), output_of),
        (6, 4),
    ),
    "LSTM in both directions": (
        lambda: Recurrent(
            nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True),
            lambda _, states: torch.cat([states[0][-2], states[0][-1]], 1),
        ),
        (6, 4),
    ),
    "LSTM with projections": (
        lambda: Recurrent(
            nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True, proj_size=3),
            lambda output, states: output.mean(1) + torch.cat([states[0][-2], states[1][-1, :, :3]], 1),
        ),
        (4, 4),
    ),
    "RNN": (lambda: Recurrent(nn.RNN(12, 5, batch_first=True), output_of), SERIES),
    "RNN of two layers in both directions": (
        lambda: Recurrent(
            nn.RNN(4, 3, 2, nonlinearity="relu", bias=False, batch_first=True, bidirectional=True),
            lambda output, hidden: output.mean(1) + torch.cat([hidden[-2], hidden[-1]], 1),
        ),
        (4, 4),
    ),
    "RNN from constant states": (lambda: FromStates(nn.RNN(4, 3, batch_first=True), learned=True), (4, 4)),
    "LSTM from constant states": (lambda: FromStates(nn.LSTM(4, 3, batch_first=True), learned=True), (5, 4)),
    "LSTM of two layers from states of the input": (
        lambda: FromStates(nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), learned=False),
        (3, 4),
    ),
    "GRU from constant states": (
        lambda: FromStates(nn.GRU(4, 3, batch_first=True, bidirectional=True), learned=True),
        (4, 4),
    ),
    "GRU from states of the input": (lambda: FromStates(nn.GRU(4, 3, batch_first=True), learned=False), (4, 4)),
    "LSTMCell that decodes": (lambda: Decoder(nn.LSTMCell(2, 3)), VECTOR),
    "GRUCell that decodes": (lambda: Decoder(nn.GRUCell(2, 3)), VECTOR),
    "RNNCell that decodes": (lambda: Decoder(nn.RNNCell(2, 3)), VECTOR),
    "LSTM from the states of another one": (Answers, (4, 4)),
    "LSTMCell": (lambda: Cells(nn.LSTMCell(4, 3)), (5, 4)),
    "GRUCell": (lambda: Cells(nn.GRUCell(4, 3)), (5, 4)),
    "squeezed state of an LSTM": (
        lambda: Recurrent(nn.LSTM(4, 3, batch_first=True), lambda _, states: states[0].squeeze(0)),
        (6, 4),
    ),
    "MultiheadAttention": (SelfAttention, (7, 12)),
    "MultiheadAttention with a mask": (
        lambda: SelfAttention(attn_mask=torch.ones(7, 7, dtype=torch.bool).triu(1)),
        (7, 12),
    ),
    "MultiheadAttention of named parts, out of order": (
        lambda: Named(nn.MultiheadAttention(12, 3, batch_first=True), "value", "query", "key"),
        (7, 12),
    ),
    "TransformerEncoder of a named sequence": (
        lambda: Named(nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 2, 20, batch_first=True), 1), "src"),
        (7, 12),
    ),
    "RMSNorm of a named value": (lambda: Named(nn.RMSNorm(12), "x"), SERIES),
    "MultiheadAttention of padded keys": (
        lambda: SelfAttention(key_padding_mask=torch.arange(7)[None] > 4),
        (7, 12),
    ),
    "attention of a learned query": (
        lambda: Learned(nn.MultiheadAttention(12, 3, batch_first=True), pooled, 2),
        (7, 12),
    ),
    "attention of many learned queries": (
        lambda: Learned(nn.MultiheadAttention(12, 3, batch_first=True, bias=False), pooled, 9),
        (7, 12),
    ),
    "attention of learned queries with the time in front": (
        lambda: Learned(
            nn.MultiheadAttention(12, 2),
            lambda m, learned, x: m(learned, x.transpose(0, 1), x.transpose(0, 1))[0].transpose(0, 1),
            3,
        ),
        (7, 12),
    ),
    "attention to learned keys": (
        lambda: Learned(
            nn.MultiheadAttention(12, 2, batch_first=True),
            lambda m, learned, x: m(x, learned.transpose(0, 1), 0.5 * learned.transpose(0, 1))[0],
            5,
        ),
        (7, 12),
    ),
    "scaled_dot_product_attention of learned queries": (
        lambda: Learned(
            nn.Linear(12, 12),
            lambda m, learned, x: F.scaled_dot_product_attention(
                learned.view(3, -1, 2, 6).permute(1, 2, 0, 3), m(x).view(-1, 7, 2, 6).transpose(1, 2), x[:, None]
            ),
            3,
        ),
        (7, 12),
    ),
    "TransformerDecoderLayer with learned queries": (
        lambda: Learned(
            nn.TransformerDecoderLayer(12, 2, 20, batch_first=True),
            lambda m, learned, x: m(learned.transpose(0, 1), x),
            4,
        ),
        (7, 12),
    ),
    "attention with the time in front": (TimeInFront, (7, 12)),
    "TransformerEncoder with a mask": (Causal, (7, 12)),
    "PReLU": (lambda: nn.PReLU(4), IMAGE),
    "PReLU of one slope": (nn.PReLU, IMAGE),
    "LogSoftmax": (lambda: nn.LogSoftmax(1), VECTOR),
    "GLU": (lambda: nn.GLU(1), VECTOR),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d((1, 2, 0, 1)), IMAGE),
    "ReplicationPad2d": (lambda: nn.ReplicationPad2d(1), IMAGE),
    "ConstantPad1d": (lambda: nn.ConstantPad1d(2, 0.7), SERIES),
    "PixelShuffle": (lambda: nn.Sequential(nn.Conv2d(4, 12, 3), nn.PixelShuffle(2)), IMAGE),
    "Hardtanh": (lambda: nn.Hardtanh(-0.5, 0.7), IMAGE),
    **{
        activation.__class__.__name__: (given(activation), IMAGE)
        for activation in (
            nn.GELU(),
            nn.ELU(),
            nn.CELU(0.5),
            nn.SELU(),
            nn.Mish(),
            nn.Softplus(),
            nn.Softsign(),
            nn.LogSigmoid(),
            nn.Tanhshrink(),
            nn.Softshrink(0.3),
            nn.Hardshrink(0.3),
            nn.Threshold(0.1, -0.2),
            nn.RReLU(),
            nn.Softmin(1),
        )
    },
}


def with_statistics(network: nn.Module) -> nn.Module:
    """Give batch norms statistics, factors and offsets of their own, and slopes some signs."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm):
            mean, variance = module.get_buffer("running_mean"), module.get_buffer("running_var")
            for tensor in (mean, module.weight.data, module.bias.data):
                tensor.normal_(generator=generator)
            variance.uniform_(0.5, 2.0, generator=generator)
        if isinstance(module, nn.PReLU) and module.num_parameters > 1:
            module.weight.data.normal_(generator=generator)
    return network.eval()
