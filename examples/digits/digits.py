"""My own data, metric and network: handwritten digits of 8 x 8 pixels (UCI, in scikit-learn), and a small CNN."""

import hashlib

import numpy as np
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from qanas.search_space.network_space import NetworkSpace
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import AtLeast, Choice, Integer
from qanas.search_space.training_group import TrainingSettings, training_settings
from qanas.tasks.base import Split, Task, TaskData


class Digits(Task):
    metrics = {"accuracy": "maximize"}
    losses = ("cross_entropy",)

    def fingerprint(self):
        return hashlib.sha256(load_digits().data.tobytes()).hexdigest()

    def load(self):
        digits = load_digits()
        images = (digits.images[:, None] / 16).astype(np.float32)  # (1797, 1, 8, 8), as torch has images
        parts = np.split(np.random.default_rng(0).permutation(len(images)), [1100, 1450])
        train, val, test = (Split(images[part], digits.target[part]) for part in parts)
        return TaskData(train, val, test, output_size=10)

    def loss(self, kind, outputs, targets):
        return F.cross_entropy(outputs, targets)

    def evaluate(self, outputs, split):
        return {"accuracy": float((outputs.argmax(1) == split.targets).mean())}


class SmallCNN(NetworkSpace):
    def settings(self, shape):
        blocks = Integer("blocks", "architecture", 2, low=1, high=3)
        channels = [
            Integer(f"channels_{i}", "architecture", 16, low=2, high=32, log=True, condition=AtLeast("blocks", i))
            for i in (1, 2, 3)
        ]
        kernel = Choice("kernel_size", "architecture", 3, options=(1, 3, 5))
        reference = TrainingSettings(0.01, "adam", "cosine", 64, "cross_entropy")
        return [blocks, *channels, kernel, *training_settings(shape.losses, reference), *quantization_settings()]

    def build(self, candidate, shape):
        chosen, size, width = candidate.architecture, candidate.architecture["kernel_size"], shape.input_shape[0]
        layers = []
        for i in range(1, chosen["blocks"] + 1):
            channels = chosen[f"channels_{i}"]
            layers += [nn.Conv2d(width, channels, size, padding="same", bias=False), nn.BatchNorm2d(channels)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            width = channels
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, shape.output_size))
