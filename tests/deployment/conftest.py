"""A small LSTM, really trained, shared by the tests of what ships."""

from dataclasses import dataclass

import pytest
import torch

from qanas.networks.lstm import LSTMNetwork
from qanas.networks.recurrent import REFERENCE_TRAINING
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from qanas.tasks.samples import Split
from qanas.tasks.turbofan.task import Turbofan
from qanas.training.choice import make_trainer
from qanas.training.loop import Epochs, fit
from qanas.training.trainer import TrainingSet


@dataclass(frozen=True)
class Trained:
    """A trained network, quantized, with its task and some validation samples."""

    task: Turbofan
    network: LSTMNetwork
    quantized: QuantizedGraph
    split: Split


@pytest.fixture(scope="session")
def trained() -> Trained:
    """An LSTM of 8 units after 6 epochs on synthetic engines."""
    task = Turbofan("synthetic", stride=3)
    data = task.load()
    inputs, targets = torch.from_numpy(data.train.inputs), torch.from_numpy(data.train.targets)
    torch.manual_seed(0)
    network = LSTMNetwork(data.input_shape[-1], [8], 1, data.target_scale)
    trainer = make_trainer(network, TrainingSet(inputs, targets), task.loss, REFERENCE_TRAINING)
    fit(trainer, Epochs(len(inputs), REFERENCE_TRAINING, 6, seed=0))
    graph = trace(network, data.input_shape)
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(inputs), Scheme())
    rows = slice(None, None, 8)
    extras = {name: values[rows] for name, values in data.val.extras.items()}
    return Trained(task, network, quantized, Split(data.val.inputs[rows], data.val.targets[rows], extras))
