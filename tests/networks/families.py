"""Small networks of families that are common on edge devices, beside those that are searched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class TinyTransformer(nn.Module):
    """An encoder over windows of sensor data, with a learned place for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.places = nn.Parameter(0.2 * torch.randn(1, 20, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.encoder(self.embed(x) + self.places).mean(1))
        return scores


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, a gated convolution over time, and the other half (Gulati et al. 2020)."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()

        def feed_forward() -> nn.Module:
            return nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
            )

        self.before, self.behind = feed_forward(), feed_forward()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 3, batch_first=True)
        self.convolution = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1),
            nn.GLU(1),
            nn.Conv1d(width, width, 5, padding=2, groups=width),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 1),
        )
        self.convolution_norm, self.last = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.before(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.convolution(self.convolution_norm(x).transpose(1, 2)).transpose(1, 2)
        result: Tensor = self.last(x + 0.5 * self.behind(x))
        return result


class KeywordGRU(nn.Module):
    """Keywords from frames of features."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(10, 20, batch_first=True)
        self.head = nn.Linear(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.gru(x)
        scores: Tensor = self.head(output[:, -1])
        return scores


class UNet(nn.Module):
    """Two levels, up again by transposed convolutions (Ronneberger et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

        self.first, self.second, self.third = block(3, 6), block(6, 8), block(8, 12)
        self.pool = nn.MaxPool2d(2)
        self.up_second, self.up_first = nn.ConvTranspose2d(12, 8, 2, 2), nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.join_second, self.join_first = block(16, 8), block(12, 6)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(self.pool(first))
        up = self.up_second(self.third(self.pool(second)))
        up = self.up_first(self.join_second(torch.cat([up, second], 1)))
        scores: Tensor = self.head(self.join_first(torch.cat([up, first], 1)))
        return scores


class DenseNet(nn.Module):
    """Norms in front of convolutions, whose outputs are all put side by side (Huang et al. 2017)."""

    def __init__(self, growth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.layers = nn.ModuleList(self._layer(8 + growth * number, growth) for number in range(3))
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 8, 1), nn.AvgPool2d(2))
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    @staticmethod
    def _layer(inputs: int, growth: int) -> nn.Module:
        squeeze = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 8, 1, bias=False))
        return nn.Sequential(squeeze, nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, growth, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        features = torch.relu(self.norm(self.transition(x)))
        scores: Tensor = self.head(nn.functional.adaptive_avg_pool2d(features, 1).flatten(1))
        return scores


class PreActivationResNet(nn.Module):
    """Residual blocks that begin with their norms (He et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1, bias=False),
            )
            for _ in range(2)
        )
        self.head = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        scores: Tensor = self.head(x)
        return scores


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "transformer": (TinyTransformer, (20, 6)),
    "Conformer block": (ConformerBlock, (15, 12)),
    "GRU": (KeywordGRU, (16, 10)),
    "U-Net": (UNet, (3, 16, 12)),
    "DenseNet": (DenseNet, (3, 16, 16)),
    "pre-activation ResNet": (PreActivationResNet, (3, 12, 12)),
}
