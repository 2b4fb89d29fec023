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


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))


def with_width(width: int, depth: int, bias: bool = True) -> nn.Module:
    return nn.Linear(width, depth, bias)


def gelu() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.GELU())


def nothing() -> None:
    return None


def broken() -> nn.Module:
    raise RuntimeError("no weights here")


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


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
