"""What ``--scheme`` and ``--set`` make of an export."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from qanas.core.errors import InputError
from qanas.exporting.export import exporter, integer_tflite, ship
from qanas.exporting.report import Export
from qanas.exporting.scheme import ExportScheme
from qanas.exporting.source import Source
from qanas.hardware.device import Device
from qanas.quantization.scheme import Scheme, named_schemes


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A network with convolutions whole and by channel, and a dense layer."""
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(3).normal(size=(20, 2, 9, 8)).astype(np.float32))
    return Source.load("exported_networks:SmallCNN", tmp_path / "samples.npz")


def test_changes_are_fields_of_the_scheme_and_of_its_layers() -> None:
    given = ["weight_bits=4", "container = int4", "layers.head.3.weight_bits=8", "layers.head.3.scales=power_of_two"]
    assert ExportScheme.parse("symmetric_per_tensor", given).scheme == Scheme(
        weight_bits=4,
        activations="symmetric",
        weight_scales="tensor",
        container="int4",
        layers={"head.3": {"weight_bits": 8, "scales": "power_of_two"}},
    )
    assert ExportScheme.parse(None, []).scheme == Scheme()
    assert ExportScheme.parse("int8_percentile", ()).scheme == named_schemes()["int8_percentile"]


def test_kernels_that_are_wrong_are_avoided(source: Source, tmp_path: Path) -> None:
    assert ExportScheme.parse(None, ["weight_bits=4"], "grouped_convolution").scheme == Scheme(
        weight_bits=4, avoid="grouped_convolution"
    )
    told = ship(source, exporter("tflite", None, (), "grouped_convolution")(source), tmp_path / "m.tflite")
    assert "grouped_convolution avoided" in str(told.quantization)
    with pytest.raises(InputError, match=r"--avoid: unknown kind of kernel 'grouped': .*grouped_convolution"):
        exporter("tflite", None, (), "grouped")
    with pytest.raises(InputError, match="--avoid: --format tflite-float32 quantizes nothing"):
        exporter("tflite-float32", None, (), "grouped_convolution")


def test_a_device_says_what_it_avoids() -> None:
    host = Device.named("host")
    wrong = host.model_copy(update={"avoid": "grouped_convolution"})
    assert host.scheme(Scheme()) == Scheme()
    assert wrong.scheme(Scheme(weight_bits=4)) == Scheme(weight_bits=4, avoid="grouped_convolution")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("weight_bits", "--set weight_bits: give a field and a value, such as --set weight_bits=4"),
        ("=4", "--set =4: give a field"),
        ("layers.weight_bits=4", "--set layers.weight_bits=4: give a field and a value, .* --set layers.encoder.0."),
        ("head.weight_bits=4", "--set head.weight_bits=4: give a field and a value"),
        ("layers..weight_bits=4", "give a field and a value"),
        ("layers=4", "unknown field 'layers'"),
        ("weight_bit=4", "--set weight_bit=4: unknown field 'weight_bit': did you mean 'weight_bits'"),
        ("weight_bits=5", "--set weight_bits = 5: known are 4, 6, 8"),
        ("weight_bits=[4]", r"--set weight_bits = \[4\]: known are 4, 6, 8"),
        ("layers.head.container=int2", r"--set layers\.head\.container = 'int2': known are int8, int4"),
    ],
)
def test_changes_that_are_none_are_refused(change: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        ExportScheme.parse(None, [change])


def exported(source: Source, folder: Path, *changes: str, file_format: str = "tflite") -> Export:
    out = folder / "model.tflite"
    told = ship(source, exporter(file_format, None, changes)(source), out)
    assert told.failure == ""
    assert told.costs["file_bytes"] == out.stat().st_size
    return told


def test_int4_tensors_ship_as_simulated(source: Source, tmp_path: Path) -> None:
    whole, packed = (exported(source, tmp_path, "weight_bits=4", *more) for more in ([], ["container=int4"]))
    weights = 8 * 2 * 9 + 8 * 9 + 3 * 8
    assert whole.costs["weight_bytes"] - packed.costs["weight_bytes"] == weights // 2
    assert whole.costs["packed_weight_bytes"] == packed.costs["packed_weight_bytes"]
    assert packed.parity is not None
    assert packed.parity.max == 0
    assert packed.sqnr_db == whole.sqnr_db
    assert packed.quantization is not None
    assert "weights of 4 bits in int4 tensors" in packed.quantization
    assert f"{'quantization':<20}{packed.quantization}" in packed.lines()


@pytest.mark.parametrize("change", ["container=int4", "layers.head.container=int4"])
def test_onnx_has_no_int4_tensors(change: str) -> None:
    with pytest.raises(InputError, match=r"^--set container: --format onnx stores weights in int8 tensors; leave it"):
        exporter("onnx", None, ["weight_bits=4", change])


def test_few_bits_to_onnx(source: Source, tmp_path: Path) -> None:
    told = exported(source, tmp_path, "weight_bits=4", file_format="onnx")
    assert told.quantization is not None
    assert told.quantization.startswith("int4 weights in int8 tensors")


def test_a_float_file_has_nothing_to_change() -> None:
    with pytest.raises(InputError, match=r"^--set: --format tflite-float32 quantizes nothing"):
        exporter("tflite-float32", None, ["weight_bits=4"])


def test_a_layer_that_the_network_lacks(source: Source) -> None:
    with pytest.raises(InputError, match=r"^--set layers\.tail: the network has no such layer; it has input, "):
        exporter("tflite", None, ["layers.tail.weight_bits=4"])(source)


def test_bits_of_weights_for_a_layer_without_weights() -> None:
    samples = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    source = Source.of(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)), samples)
    with pytest.raises(InputError, match=r"^--set layers\.1\.weight_bits: it has no weights; leave it out$"):
        exporter("tflite", None, ["layers.1.weight_bits=4"])(source)
    exporter("tflite", None, ["layers.2.weight_bits=4", "layers.1.activation_bits=8"])(source)


def test_what_has_no_kernel_of_16_bits_has_8_and_it_is_told() -> None:
    samples = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    source = Source.of(nn.Sequential(nn.Linear(4, 4), nn.PReLU(4), nn.LayerNorm(4), nn.Linear(4, 2)), samples)
    scheme = ExportScheme.parse("int16", [])
    deployed = integer_tflite(source, scheme)
    assert deployed.failure == ""
    assert deployed.precision == "int8 and int16"
    assert deployed.quantization is not None
    assert deployed.quantization.endswith(
        "8 bits where the runtime has no kernel of 16: 2 of InverseRoot, ParametricReLU"
    )
    assert "no kernel" not in ExportScheme().description(source.graph)


def test_of_a_module_with_16_bits_what_can_has_them() -> None:
    samples = np.random.default_rng(0).normal(size=(100, 6, 4)).astype(np.float32)
    block = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Tanh())
    source = Source.of(nn.Sequential(block, nn.Linear(4, 2)), samples)
    scheme = ExportScheme.parse("int8", ["layers.0.activation_bits=16"])
    deployed = integer_tflite(source, scheme)
    assert deployed.failure == ""
    assert deployed.quantization is not None
    assert deployed.quantization.endswith("8 bits where the runtime has no kernel of 16: 1 of InverseRoot")
    assert deployed.quantized is not None
    bits = {name: affine.bits for name, affine in deployed.quantized.affines.items()}
    (root,) = (node.name for node in source.graph.nodes if type(node.operator).__name__ == "InverseRoot")
    assert bits["_0_0"] == bits["_0_2"] == 16
    assert bits[root] == bits["_1"] == 8


def test_a_name_that_begins_like_that_of_a_layer_without_a_kernel_keeps_its_bits() -> None:
    samples = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    parts = OrderedDict(act=nn.PReLU(4), act_conv=nn.Linear(4, 4), act_out=nn.Tanh())
    deployed = integer_tflite(Source.of(nn.Sequential(parts), samples), ExportScheme.parse("int16", []))
    assert deployed.failure == ""
    assert deployed.quantized is not None
    bits = {name: affine.bits for name, affine in deployed.quantized.affines.items()}
    assert (bits["act"], bits["act_conv"], bits["act_out"]) == (8, 16, 16)


def test_parts_of_an_encoder_are_named_as_torch_does() -> None:
    samples = np.random.default_rng(0).normal(size=(100, 5, 8)).astype(np.float32)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.Sequential(nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False))
    source = Source.of(network.eval(), samples)
    names = {name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    assert "0.layers.1.self_attn.out_proj" in names
    for name in names:
        deployed = integer_tflite(source, ExportScheme.parse("int8", [f"layers.{name}.weight_bits=4"]))
        assert deployed.failure == ""
        assert deployed.quantized is not None
        few = [part for part, own in deployed.quantized.operators.items() if _bits_of_weights(own) == 4]
        assert few == [f"_{name.replace('.', '_')}"]


def _bits_of_weights(operator: Any) -> int | None:  # noqa: ANN401 - any quantized operator
    weights = getattr(operator, "weights", None)
    return None if weights is None else weights.bits


def test_a_layer_that_can_not_have_the_bits_that_it_is_to_have_is_named_with_the_option_that_gives_others() -> None:
    samples = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    source = Source.of(nn.Sequential(nn.Linear(4, 4), nn.PReLU(4)), samples)
    told = r"^--scheme: _1: .* give this layer activation_bits = 8, by --set layers\.NAME\.FIELD=VALUE, or name another"
    with pytest.raises(InputError, match=told):
        ExportScheme.parse("int16", ["layers._1.activation_bits=16"]).quantize(source)
    assert ExportScheme.parse("int16", ["layers._1.activation_bits=8"]).quantize(source).precision == "int8 and int16"


def test_what_moves_codes_without_a_kernel_of_16_bits_moves_8() -> None:
    samples = np.random.default_rng(0).normal(size=(100, 2, 4, 4)).astype(np.float32)
    source = Source.of(nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2), nn.Conv2d(2, 3, 1)), samples)
    assert integer_tflite(source, ExportScheme.parse("int16", [])).failure == ""
