"""Profiles: layer by layer, whose sums are the network's costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import qanas
from qanas.core.errors import InputError
from qanas.hardware.costs import Blueprint, costs_of
from qanas.hardware.device import Device
from qanas.hardware.memory import live_bytes
from qanas.hardware.profile import profiled
from qanas.networks.fastestdet import FastestDet
from qanas.reporting.profile_page import profile_json, write_profile

BACKBONE, FIRST_CONVOLUTION = 0.626, 13_271_040
"""Of FastestDet at 256 x 320: the share of all compute, as published; 128 x 160 x 24 outputs of 27 products."""


def test_fastestdets_compute_is_where_it_was_published_to_be(detector: Blueprint) -> None:
    parts = [name for name, _ in FastestDet((256, 320), classes=2).named_children()]
    found = profiled(detector.program, Device.named("stm32h743"), parts)
    macs = found.by_part(lambda layer: layer.macs)
    assert macs["backbone"] / sum(macs.values()) == pytest.approx(BACKBONE, abs=0.003)
    most = found.bottlenecks()["multiply-accumulates"]
    assert (most.layer, most.macs) == ("backbone_stem_0_conv", FIRST_CONVOLUTION)


def test_layers_sum_up_to_the_networks_costs(detector: Blueprint) -> None:
    device, costs = Device.named("stm32h743"), costs_of(detector)
    found = profiled(detector.program, device)
    assert sum(layer.macs for layer in found.layers) == costs["macs"]
    assert sum(layer.taken or 0.0 for layer in found.layers) == pytest.approx(
        device.figure("latency_ms", [detector.file])[0]
    )
    assert max(layer.live_bytes for layer in found.layers) <= costs["peak_ram_bytes"]
    # The stem's input and output are all that is needed at first: 256 x 320 x 3 and 128 x 160 x 24 codes.
    assert live_bytes(detector.program)[0] == 256 * 320 * 3 + 128 * 160 * 24
    assert all(layer.layer for layer in found.layers)


def test_a_file_has_a_profile_and_a_picture(detector: Blueprint, tmp_path: Path) -> None:
    path = tmp_path / "own.tflite"
    path.write_bytes(detector.file)
    found = qanas.profile(path, device="stm32h743")
    assert [layer.macs for layer in found.layers] == [
        layer.macs for layer in profiled(detector.program, Device.named("stm32h743")).layers
    ]
    assert json.loads(json.dumps(profile_json(found)))["device"] == "stm32h743"
    write_profile(found, "own.tflite", tmp_path / "p.html")
    assert "working memory" in (tmp_path / "p.html").read_text()
    assert not qanas.profile(path).timed
    (tmp_path / "bad.tflite").write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"bad\.tflite: it is no \.tflite file"):
        qanas.profile(tmp_path / "bad.tflite")


def test_a_recipes_reference_has_one() -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "turbofan_quick.toml"
    found = qanas.profile(recipe, {"task.data": "synthetic", "device.name": "stm32l4r5"})
    assert found.timed
    assert found.bottlenecks()["latency"].kind == "UNIDIRECTIONAL_SEQUENCE_LSTM"
