"""Networks as users write them, and what is not one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """An image classifier with a residual, a depthwise convolution and dropout."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        result: Tensor = self.head(x + self.depthwise(x))
        return result


class WindowLSTM(nn.Module):
    """A number for a window of sensors."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.linear = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(self.lstm(x)[0][:, -1])
        return result


class PixelLabels(nn.Module):
    """An output that is an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x)
        return result


linear = nn.Linear(4, 2)


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ELU(), nn.Linear(6, 2))


def log_probabilities() -> nn.Module:
    scores = nn.Linear(4, 3)
    scores.weight.data *= 20
    return nn.Sequential(scores, nn.LogSoftmax(1))


def mished() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Mish())


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))


def with_width(width: int, depth: int, bias: bool = True) -> nn.Module:
    return nn.Linear(width, depth, bias)


class OneNumber(nn.Module):
    """A number a sample, without an axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x).squeeze(-1)
        return result


class ByCount(nn.Module):
    """An output whose shape, or whose number, depends on how many samples there are."""

    def __init__(self, several: bool = False) -> None:
        super().__init__()
        self.several = several

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if len(x) > 1:
            return x * 2.0
        return (x, x + 1.0) if self.several else torch.cat([x, x], 1)


def by_count() -> nn.Module:
    return ByCount(several=True)


class LogGamma(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.lgamma(x * x + 1.0)


class ManyAxes(nn.Module):
    """A concatenation of seven axes, or a product of matrices in six of them, the batch among them."""

    def __init__(self, product: bool = False) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        y = x.view(-1, 2, 3, 2, 2, 2) if self.product else x.view(-1, 2, 3, 2, 2, 2, 1)
        return y @ y.mT if self.product else torch.cat([y, y.relu()], 3)


def many_axes() -> nn.Module:
    return ManyAxes(product=True)


def nothing() -> None:
    return None


def broken() -> nn.Module:
    raise RuntimeError("no weights here")


class WithText(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return x, "text"


class BoxesApart(nn.Module):
    """Pixels and scores, each an output."""

    def __init__(self) -> None:
        super().__init__()
        self.box, self.score = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 320.0 * torch.sigmoid(self.box(x)), torch.sigmoid(self.score(x))


class BoxesAndScores(BoxesApart):
    """Both in one output."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.cat(super().forward(x), 1)


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.Linear(4, 5), nn.Linear(5, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.encode(a)) * torch.relu(self.encode(b)))
        return found


class Streaming(nn.Module):
    """A cell whose state goes in and comes out, under one name."""

    def __init__(self) -> None:
        super().__init__()
        self.take, self.keep, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, state: Tensor) -> dict[str, Tensor | list[Tensor]]:
        state = torch.relu(self.take(x) + self.keep(state))
        scores = self.head(state)
        return {"state": state, "heads": [scores, 300.0 * torch.sigmoid(self.head(0.5 * state))]}


class Summed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


class PythonNumbers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(2 * x.numpy())


def with_nan() -> nn.Module:
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    return layer


number = 3


class Counter(nn.Module):
    """Has a state that changes with every call."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1.0)
        return x * self.seen


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.between, self.head = nn.Conv2d(3, 4, 3), Counter(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.between(self.conv(x)).relu().mean((2, 3)))
        return y


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    network[1].register_forward_hook(lambda _, __, output: output.relu() * 2)
    return network


def _uneven(columns: list[float]) -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    network[0].weight.data /= torch.tensor(columns)  # type: ignore[operator, arg-type]
    return network


def uneven() -> nn.Module:
    return _uneven([1 / 200, 1.0, 1.0, 200.0])


def very_uneven() -> nn.Module:
    return _uneven([1e-5, 1.0, 1.0, 1e5])


def offset() -> nn.Module:
    layer = nn.Linear(4, 2)
    layer.bias.data[:] = 300.0
    return layer


class Prints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        print(tuple(x.shape))  # noqa: T201 - as networks of others do
        y: Tensor = self.layer(x)
        return y


class AlwaysDrops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5)
