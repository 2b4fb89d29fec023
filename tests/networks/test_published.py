"""Every reference that a space has by name: parameters and multiply-accumulates as published."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch

from qanas.layers.mbconv import scaled_channels
from qanas.networks.autoencoder import AutoencoderSpace
from qanas.networks.conv1d import Conv1DSpace
from qanas.networks.ds_cnn import DSCNNSpace
from qanas.networks.ds_cnn import Reference as DSCNNReference
from qanas.networks.gru import GRUSpace
from qanas.networks.mobilenet import MobileNetSpace
from qanas.networks.mobilenet import Reference as MobileNetReference
from qanas.networks.resnet import Reference as ResNetReference
from qanas.networks.resnet import ResNetSpace
from qanas.quantization.tracing import trace_shapes
from qanas.search_space.network_space import NetworkSpace, TaskShape
from qanas.search_space.space import space_of

if TYPE_CHECKING:
    from qanas.quantization.graph import Graph

LOSSES = ("cross_entropy",)


def graph_of(space: NetworkSpace, input_shape: tuple[int, ...], outputs: int) -> Graph:
    """Return the reference's graph, batch norms folded, without weights."""
    shape = TaskShape(input_shape, outputs, 1.0, LOSSES)
    reference = space_of(space.settings(shape), ("architecture",)).reference
    return trace_shapes(lambda: space.build(reference, shape), input_shape)


# MLPerf Tiny, benchmark/training/*/trained_models of github.com/mlcommons/tiny at 1afd2c9: weights and biases in its
# .tflite files, and the multiply-accumulates of their layers.
MLPERF_TINY: dict[str, tuple[NetworkSpace, tuple[int, ...], int, int, int]] = {
    "pretrainedResnet_quant": (ResNetSpace(reference="resnet8"), (3, 32, 32), 10, 77_706, 12_501_632),
    "kws_ref_model": (DSCNNSpace(reference="ds_cnn_s"), (49, 10), 12, 22_604, 2_656_768),
    "vww_96_int8": (MobileNetSpace(reference="mobilenet_v1_0.25"), (3, 96, 96), 2, 210_850, 7_489_664),
    "ad01_int8": (AutoencoderSpace(reference="fc_autoencoder"), (640,), 640, 265_864, 264_192),
}
DATA = Path(os.environ.get("QANAS_DATA", "missing")) / "mlperf_tiny"


@pytest.mark.parametrize("name", MLPERF_TINY)
def test_mlperf_tinys_four(name: str) -> None:
    space, shape, outputs, parameters, macs = MLPERF_TINY[name]
    graph = graph_of(space, shape, outputs)
    assert (graph.parameters, graph.macs) == (parameters, macs)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the models of MLPerf Tiny in $QANAS_DATA")
@pytest.mark.parametrize("name", MLPERF_TINY)
def test_they_have_the_layers_of_the_published_files(name: str) -> None:
    space, shape, outputs, *_ = MLPERF_TINY[name]
    own = [list(node.operator.weight.shape) for node in graph_of(space, shape, outputs).nodes
           if hasattr(node.operator, "weight")]  # fmt: skip
    assert sorted(map(sorted, own)) == sorted(sorted(weights) for weights in weights_of(DATA / f"{name}.tflite"))


def weights_of(path: Path) -> list[list[int]]:
    """Return the shapes of all kernels in a file, without axes of one depthwise group."""
    interpreter: Any = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    return [
        np.asarray(tensors[operator["inputs"][1]]["shape"]).tolist()
        for operator in interpreter._get_ops_details()
        if operator["op_name"] in kinds
    ]


# Millions of parameters and of multiply-adds at 224 x 224 (EfficientNet-Lite: at its own size) for 1000 classes.
MOBILE: dict[str, tuple[int, float, float | None]] = {
    # Howard et al. 2017, tables 6 and 7
    "mobilenet_v1_0.25": (224, 0.5, 41),
    "mobilenet_v1_0.5": (224, 1.3, 149),
    "mobilenet_v1_0.75": (224, 2.6, 325),
    "mobilenet_v1_1.0": (224, 4.2, 569),
    # Sandler et al. 2018, table 4, and the model list of its code
    "mobilenet_v2_0.35": (224, 1.66, 59),
    "mobilenet_v2_0.5": (224, 1.95, 97),
    "mobilenet_v2_0.75": (224, 2.61, 209),
    "mobilenet_v2_1.0": (224, 3.5, 300),
    "mobilenet_v2_1.4": (224, 6.06, 582),
    # Howard et al. 2019, table 3
    "mobilenet_v3_large": (224, 5.4, 219),
    "mobilenet_v3_small": (224, 2.5, 56),
    # the README of EfficientNet-Lite, whose multiply-adds (407 to 2640) count more than those of convolutions
    "efficientnet_lite0": (224, 4.7, None),
    "efficientnet_lite1": (240, 5.4, None),
    "efficientnet_lite2": (260, 6.1, None),
    "efficientnet_lite3": (280, 8.2, None),
    "efficientnet_lite4": (300, 13.0, None),
}


def test_every_mobile_network_is_known_here() -> None:
    assert set(MOBILE) == set(get_args(MobileNetReference))


@pytest.mark.parametrize("reference", get_args(MobileNetReference))
def test_mobile_networks(reference: MobileNetReference) -> None:
    side, parameters, macs = MOBILE[reference]
    shape = TaskShape((3, side, side), 1000, 1.0, LOSSES)
    graph = trace_shapes(lambda: MobileNetSpace(reference=reference).reference_network(shape), shape.input_shape)
    assert graph.parameters / 1e6 == pytest.approx(parameters, abs=0.1)
    assert macs is None or graph.macs / 1e6 == pytest.approx(macs, rel=0.02)


@pytest.mark.parametrize(
    ("reference", "counted"),
    [("mobilenet_v2_1.0", 3_504_872), ("mobilenet_v3_large", 5_483_032), ("mobilenet_v3_small", 2_542_856)],
)
def test_parameters_as_torchvision_counts_them(reference: MobileNetReference, counted: int) -> None:
    """With batch norms, which count two a channel."""
    with torch.device("meta"):
        network = MobileNetSpace(reference=reference).reference_network(TaskShape((3, 32, 32), 1000, 1.0, LOSSES))
    assert sum(parameter.numel() for parameter in network.parameters()) == counted


# Hello Edge (Zhang et al. 2017): sizes in its code, train_commands.txt of github.com/ARM-software/ML-KWS-for-MCU.
@pytest.mark.parametrize(("reference", "channels", "layers"), [("ds_cnn_m", 172, 4), ("ds_cnn_l", 276, 5)])
def test_larger_keyword_spotters(reference: DSCNNReference, channels: int, layers: int) -> None:
    graph = graph_of(DSCNNSpace(reference=reference), (49, 10), 12)
    separable = 9 * channels + channels + channels**2 + channels
    assert graph.parameters == 40 * channels + channels + layers * separable + 12 * channels + 12
    inner = 13 * 5 * (9 * channels + channels**2)
    assert graph.macs == 25 * 10 * 40 * channels + layers * inner + 12 * channels


# He et al. 2016, table 6; ways around without weights there, with 1 x 1 convolutions here.
@pytest.mark.parametrize(
    ("reference", "published"), [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85)]
)
def test_residual_networks(reference: ResNetReference, published: float) -> None:
    parameters = graph_of(ResNetSpace(reference=reference), (3, 32, 32), 10).parameters
    around = 16 * 32 + 32 * 64
    assert (parameters - around) / 1e6 == pytest.approx(published, abs=0.006)


# Dai et al. 2017, table 1, and Wang et al. 2017, figure 1, sums by hand.
@pytest.mark.parametrize(
    ("space", "shape", "outputs", "published", "tolerance"),
    [
        (Conv1DSpace(reference="m3"), (32_000, 1), 10, 0.2e6, 0.05e6),
        (Conv1DSpace(reference="m5"), (32_000, 1), 10, 0.5e6, 0.06e6),
        (
            Conv1DSpace(reference="fcn"),
            (100, 1),
            5,
            1024 + 128 + 128 * 5 * 256 + 256 + 256 * 3 * 128 + 128 + 128 * 5 + 5,
            0,
        ),
        # Zhang et al. 2017: one layer of 154 units on 10 coefficients, two biases a gate
        (GRUSpace(), (25, 10), 12, 3 * 154 * (10 + 154 + 2) + 154 * 12 + 12, 0),
    ],
    ids=["m3", "m5", "fcn", "gru"],
)
def test_sequences(
    space: NetworkSpace, shape: tuple[int, ...], outputs: int, published: float, tolerance: float
) -> None:
    parameters = graph_of(space, shape, outputs).parameters
    assert abs(parameters - published) <= tolerance


def by_hand(size: int, width: float) -> int:
    """Multiply-accumulates of MobileNetV2's table 2, a line of it at a time."""
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    side, channels = math.ceil(size / 2), scaled_channels(32, width)
    macs = side**2 * 27 * channels
    for expansion, wanted, repeats, first_stride in table:
        for repeat in range(repeats):
            inner, outputs = channels * expansion, scaled_channels(wanted, width)
            macs += side**2 * channels * inner if expansion > 1 else 0
            side = math.ceil(side / first_stride) if repeat == 0 else side
            macs += side**2 * (9 * inner + inner * outputs)
            channels = outputs
    last = scaled_channels(1280, max(width, 1.0))
    return macs + side**2 * channels * last + last * 10


@pytest.mark.parametrize(("size", "width"), [(96, 0.35), (129, 0.5), (64, 1.4)])
def test_macs_by_hand(size: int, width: float) -> None:
    reference: Any = f"mobilenet_v2_{width}"
    assert graph_of(MobileNetSpace(reference=reference), (3, size, size), 10).macs == by_hand(size, width)
