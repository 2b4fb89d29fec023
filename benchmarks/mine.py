"""What a user has beside a recipe: a task and a family of networks that are trained in a moment."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from qanas.search_space.network_space import NetworkSpace
from qanas.search_space.settings import Choice, Integer
from qanas.search_space.training_group import TrainingSettings, training_settings
from qanas.tasks.base import Task, TaskData
from qanas.tasks.samples import Split


class MyTask(Task):
    metrics = {"accuracy": "maximize"}
    losses = ("ce",)

    def fingerprint(self):
        return "1"

    def load(self):
        r = np.random.default_rng(0)

        def part(n):
            x = r.normal(size=(n, 8)).astype(np.float32)
            return Split(x, (x[:, 0] > 0).astype(np.int64))

        return TaskData(part(96), part(40), part(41), output_size=2)

    def loss(self, kind, outputs, targets):
        return F.cross_entropy(outputs, targets)

    def evaluate(self, outputs, split):
        right = outputs.argmax(1) == split.targets
        return {"accuracy": float(right.mean())}


class MySpace(NetworkSpace):
    def settings(self, shape):
        own = TrainingSettings(0.01, "adam", "none", 32, "ce")
        return [Integer("width", "architecture", 4, low=2, high=16), *training_settings(shape.losses, own)]

    def build(self, candidate, shape):
        w = candidate.architecture["width"]
        return nn.Sequential(nn.Linear(8, w), nn.ReLU(), nn.Linear(w, 2))
