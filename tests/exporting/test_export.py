"""A network of one's own to a file: what is in the file, what is told of it, and every kind of bad input."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.prune import l1_unstructured

from qanas.core.errors import InputError
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.onnx.runtime import OnnxModel
from qanas.deployment.tflite import write_tflite
from qanas.exporting.export import (
    Deployed,
    exporter,
    float_tflite,
    int8_onnx,
    integer_tflite,
    noise_by_layer,
    require_folder_of,
    ship,
)
from qanas.exporting.folder import Place, ship_folder
from qanas.exporting.own_network import load_network
from qanas.exporting.report import Export, coarse_parts, ratios_about_mean, sqnr_db
from qanas.exporting.samples import COMPARED_SAMPLES
from qanas.exporting.scheme import ExportScheme
from qanas.exporting.source import NotShippedError, Source
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.program import Program

NETWORKS = "exported_networks"
SHAPES = {"SmallCNN": (2, 9, 8), "WindowLSTM": (6, 3), "linear": (4,), "mlp": (4,), "PixelLabels": (2, 5, 6)}
NAMED = ("BoxesAndScores", "BoxesApart", "OneNumber", "ByCount", "by_count", "normed", "log_probabilities", "mished")
OTHER_SHAPES = dict.fromkeys(NAMED, (4,))


@pytest.fixture(autouse=True)
def beside_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is that of the networks; the path is put back afterwards."""
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr(sys, "path", list(sys.path))


def samples_of(shape: tuple[int, ...], count: int = 40) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=(count, *shape)).astype(np.float32)


def written(folder: Path, **arrays: NDArray[Any]) -> Path:
    path = folder / "samples.npz"
    np.savez(path, allow_pickle=True, **arrays)
    return path


def only_of(named: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    (values,) = named.values()
    return values


def source_of(name: str, folder: Path) -> Source:
    return Source.load(f"{NETWORKS}:{name}", written(folder, x=samples_of({**SHAPES, **OTHER_SHAPES}[name])))


def in_litert(path: Path, inputs: NDArray[np.float32], told: Export) -> NDArray[np.float64]:
    """Run a file by what was told of it alone."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    axes = told.input.axes or tuple(range(inputs.ndim - 1))
    stored = inputs.transpose(0, *(axis + 1 for axis in axes))
    outputs = []
    for sample in stored:
        codes: NDArray[Any] = sample
        if told.input.scale is not None:
            codes = np.clip(np.rint(sample / told.input.scale) + told.input.zero_point, -128, 127).astype(np.int8)
        interpreter.reset_all_variables()
        interpreter.set_tensor(source["index"], codes[None])
        interpreter.invoke()
        values = interpreter.get_tensor(target["index"])[0].astype(np.float64)
        if told.output.scale is not None:
            values = (values - told.output.zero_point) * told.output.scale
        outputs.append(values)
    found = np.stack(outputs)
    return found.transpose(0, *(1 + np.argsort(told.output.axes or range(found.ndim - 1))))


@pytest.mark.parametrize("name", SHAPES)
def test_the_file_computes_what_torch_does(name: str, tmp_path: Path) -> None:
    source = source_of(name, tmp_path)
    out = tmp_path / "model.tflite"
    told = ship(source, integer_tflite(source, ExportScheme()), out)
    assert told.failure == ""
    assert told.parity is not None
    assert (told.parity.max, told.parity.n_outputs) == (0, only_of(source.compared_outputs).size)
    network = load_network(f"{NETWORKS}:{name}")
    with torch.no_grad():
        wanted = network(torch.from_numpy(only_of(source.samples))).numpy()
    found = in_litert(out, only_of(source.samples), told)
    assert found.shape == wanted.shape
    # By the formula; XNNPACK's kernels here, reference kernels there.
    noise = ((wanted - found) ** 2).sum()
    channels = tuple(axis for axis in range(wanted.ndim) if axis != 1)
    signal = (wanted - wanted.mean(channels, keepdims=True)) ** 2
    assert told.sqnr_db == pytest.approx(10 * math.log10(signal.sum() / noise), abs=1.0)
    assert told.sqnr_db > 20


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_told_is_what_the_file_is(name: str, tmp_path: Path) -> None:
    source = source_of(name, tmp_path)
    out = tmp_path / "model.tflite"
    told = ship(source, integer_tflite(source, ExportScheme("symmetric_per_channel")), out)
    content = out.read_bytes()
    assert (told.sha256, told.costs["file_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    interpreter = Interpreter(str(out))
    for details, tensor in (
        (interpreter.get_input_details()[0], told.input),
        (interpreter.get_output_details()[0], told.output),
    ):
        assert tuple(details["shape"]) == tensor.shape
        assert details["quantization"] == (pytest.approx(tensor.scale), tensor.zero_point)
    assert told.scheme == "symmetric_per_channel"
    assert told.input.zero_point == 0, "the scheme is symmetric"
    assert told.costs["macs"] == {"SmallCNN": 5 * 4 * 8 * 18 + 5 * 4 * 8 * 9 + 24, "linear": 8}.get(
        name, told.costs["macs"]
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "nothing half-written"


@pytest.mark.parametrize("name", SHAPES)
def test_a_float_file_computes_what_torch_does(name: str, tmp_path: Path) -> None:
    source = source_of(name, tmp_path)
    out = tmp_path / "model.tflite"
    told = ship(source, float_tflite(source), out)
    assert (told.failure, told.precision, told.parity, told.input.scale) == ("", "float32", None, None)
    np.testing.assert_allclose(
        in_litert(out, only_of(source.samples), told), only_of(source.compared_outputs), atol=1e-5
    )
    assert told.costs["file_bytes"] == out.stat().st_size


@pytest.mark.parametrize("name", ["PixelLabels", "mlp"])
def test_values_of_16_bits_are_told_and_nearer_to_torch(name: str, tmp_path: Path) -> None:
    source = source_of(name, tmp_path)
    narrow = integer_tflite(source, ExportScheme())
    told = ship(source, integer_tflite(source, ExportScheme("int16")), tmp_path / "model.tflite")
    assert (told.failure, told.precision, told.input.dtype, told.output.dtype) == ("", "int16", "int16", "int16")
    assert (told.input.zero_point, told.output.zero_point) == (0, 0)
    assert told.parity is not None
    assert told.parity.max == 0
    assert told.sqnr_db > sqnr_db(only_of(source.compared_outputs), only_of(narrow.outputs))
    assert told.costs["peak_ram_bytes"] > narrow.costs["peak_ram_bytes"]


def test_images_are_stored_channels_last_and_it_is_said(tmp_path: Path) -> None:
    source = source_of("PixelLabels", tmp_path)
    told = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "model.tflite")
    assert (told.input.shape, told.input.axes) == ((1, 5, 6, 2), (1, 2, 0))
    assert (told.output.shape, told.output.axes) == ((1, 5, 6, 4), (1, 2, 0))
    assert "NHWC" in told.input.layout
    text = "\n".join(told.lines())
    for part in ("file_bytes", "weight_bytes", "peak_ram_bytes", "macs", "sqnr_db", "parity", "zero point"):
        assert part in text


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "WindowLSTM"])
def test_an_onnx_model_computes_what_torch_does(name: str, tmp_path: Path) -> None:
    source = source_of(name, tmp_path)
    out = tmp_path / "model.onnx"
    told = ship(source, int8_onnx(source, ExportScheme()), out)
    assert told.failure == ""
    assert told.parity is not None
    assert told.parity.max <= 2
    assert told.parity.n_outputs == only_of(source.compared_outputs).size
    assert told.costs["file_bytes"] == out.stat().st_size
    assert told.input.shape == (1, *SHAPES[name]), "torch's order"
    model = OnnxModel(out.read_bytes())
    found = model.predict(only_of(source.samples))
    assert ratios_about_mean(only_of(source.compared_outputs), found)[0] == pytest.approx(told.sqnr_db)
    assert told.sqnr_db > 20


def test_an_onnx_model_outside_parity_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = OnnxModel.predict
    monkeypatch.setattr(OnnxModel, "predict", lambda self, inputs: {k: v[::-1] for k, v in exact(self, inputs).items()})
    source = source_of("linear", tmp_path)
    assert (
        "steps on average, more than 2" in ship(source, int8_onnx(source, ExportScheme()), tmp_path / "m.onnx").failure
    )
    assert not (tmp_path / "m.onnx").exists()


def test_an_lstm_to_onnx_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"WindowLSTM' can't be exported: lstm.*no integer LSTM"):
        int8_onnx(source_of("WindowLSTM", tmp_path), ExportScheme())


def test_onnx_without_its_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"onnx and onnxruntime not installed; pip install 'qanas\[onnx\]'"):
        exporter("onnx", None)


@pytest.mark.parametrize(
    ("file_format", "scheme", "text"),
    [
        ("onxx", None, "unknown format 'onxx': did you mean 'onnx'?"),
        ("tflite", "int9", "unknown scheme 'int9'"),
        ("tflite-float32", "int8", "quantizes nothing"),
    ],
)
def test_what_can_not_be_made_is_refused(file_format: str, scheme: str | None, text: str) -> None:
    with pytest.raises(InputError) as caught:
        exporter(file_format, scheme)
    assert text in str(caught.value)


def test_the_json_is_whole(tmp_path: Path) -> None:
    source = source_of("mlp", tmp_path)
    told = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "model.tflite")
    content = json.loads(json.dumps(told.as_json(), allow_nan=False))
    assert content["parity"] == {"max": 0, "mean": 0.0, "n_outputs": 80}
    assert content["input"]["shape"] == [1, 4]
    assert content["costs"].keys() == {
        "weight_bytes",
        "packed_weight_bytes",
        "file_bytes",
        "peak_ram_bytes",
        "arena_bytes",
        "macs",
    }


def test_the_layer_of_few_bits_makes_the_noise(tmp_path: Path) -> None:
    source = source_of("mlp", tmp_path)
    deployed = integer_tflite(source, ExportScheme.parse(None, ["layers.0.weight_bits=4"], None))
    export = ship_folder(source, deployed, tmp_path / "model")
    assert export.layer_noise[0].layer == "_0"
    told = [line for line in export.lines() if "(Dense), itself at" in line]
    assert told[0].startswith("noise ")
    card = json.loads((tmp_path / "model" / "card.json").read_text("utf-8"))
    assert [entry["layer"] for entry in card["layer_noise"]] == [layer.layer for layer in export.layer_noise]
    assert noise_by_layer(source, float_tflite(source)) == ()


def test_an_export_into_the_same_folder_leaves_no_file_of_the_model_before(tmp_path: Path) -> None:
    source, folder = source_of("mlp", tmp_path), tmp_path / "first"
    ship_folder(source, integer_tflite(source, ExportScheme.parse(None, [], None)), folder)
    assert (folder / "firmware" / "standalone" / "first_standalone.c").is_file()
    (folder / "firmware" / "mine.c").write_text("int mine;")
    folder = folder.rename(tmp_path / "second")
    ship_folder(source, integer_tflite(source, ExportScheme.parse("int16", [], None)), folder)
    left = [path.name for path in (folder / "firmware").rglob("*") if path.is_file()]
    assert not [name for name in left if "first" in name or "standalone" in name]
    assert {"mine.c", "second.c"} <= set(left)


def test_a_file_outside_parity_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(program: Program) -> bytes:
        weights = next(tensor for tensor in program.constants() if tensor.dtype == "int8")
        assert weights.data is not None
        weights.data.flat[np.abs(weights.data).argmax()] *= -1
        return write_tflite(program)

    source = source_of("linear", tmp_path)
    simulated = integer_tflite(source, ExportScheme())
    monkeypatch.setattr("qanas.exporting.export.write_tflite", lambda program: damaged(_copied(program)))
    broken = integer_tflite(source, ExportScheme())
    assert simulated.failure == ""
    told = ship(source, broken, tmp_path / "model.tflite")
    assert "outside parity" in told.failure
    assert not (tmp_path / "model.tflite").exists()


def _copied(program: Program) -> Program:
    """Return a program whose weights may be changed: those of the simulation are the same arrays."""
    for tensor in program.constants():
        assert tensor.data is not None
        object.__setattr__(tensor, "data", tensor.data.copy())
    return program


def test_a_failed_file_leaves_the_old_one(tmp_path: Path) -> None:
    source = source_of("linear", tmp_path)
    out = tmp_path / "model.tflite"
    out.write_bytes(b"old")
    good = integer_tflite(source, ExportScheme())
    fields = {name: getattr(good, name) for name in Deployed.__dataclass_fields__}
    ship(source, Deployed(**{**fields, "failure": "too bad"}), out)
    assert out.read_bytes() == b"old"
    ship(source, good, out)
    assert out.read_bytes() == good.content


def test_the_same_network_gives_the_same_file(tmp_path: Path) -> None:
    files = [integer_tflite(source_of("SmallCNN", tmp_path), ExportScheme()).content for _ in range(2)]
    assert files[0] == files[1]


def test_dropout_and_batch_statistics_are_those_of_eval(tmp_path: Path) -> None:
    assert not load_network(f"{NETWORKS}:SmallCNN").training
    one, other = (Source.load(f"{NETWORKS}:SmallCNN", written(tmp_path, x=samples_of((2, 9, 8)))) for _ in range(2))
    np.testing.assert_array_equal(only_of(one.compared_outputs), only_of(other.compared_outputs))


def test_weights_from_a_file(tmp_path: Path) -> None:
    layer = nn.Linear(4, 2)
    save_file(layer.state_dict(), tmp_path / "w.safetensors")
    path = written(tmp_path, x=samples_of((4,)))
    source = Source.load(f"{NETWORKS}:linear", path, weights=tmp_path / "w.safetensors")
    with torch.no_grad():
        wanted = layer(torch.from_numpy(only_of(source.samples))).numpy()
    np.testing.assert_allclose(only_of(source.compared_outputs), wanted, rtol=1e-6)


def test_one_of_several_arrays(tmp_path: Path) -> None:
    path = written(tmp_path, x=samples_of((4,)), y=samples_of((7,)))
    assert only_of(Source.load(f"{NETWORKS}:mlp", path, array="x").samples).shape == (40, 4)


def test_many_samples_are_compared_in_part(tmp_path: Path) -> None:
    source = Source.load(f"{NETWORKS}:linear", written(tmp_path, x=samples_of((4,), 1000)))
    compared = only_of(source.compared)
    assert (
        source.compared_count == len(compared) == len(only_of(source.compared_outputs)) == 1000 // 4 < COMPARED_SAMPLES
    )
    assert len(only_of(source.samples)) == 1000 - (1000 // 4)
    both = np.concatenate([compared, only_of(source.samples)])
    assert len(np.unique(both, axis=0)) == 1000


@pytest.mark.parametrize(
    ("wanted", "got", "ratio"),
    [([3.0, 4.0], [3.0, 4.5], 20.0), ([1.0], [1.0], math.inf), ([0.0], [1.0], -math.inf), ([2.0], [1.0], 6.0206)],
)
def test_the_ratio_by_hand(wanted: list[float], got: list[float], ratio: float) -> None:
    assert sqnr_db(np.array(wanted, np.float32), np.array(got, np.float32)) == pytest.approx(ratio, abs=1e-4)


GOOD = samples_of((4,))
WITH_NAN = np.where(np.arange(160).reshape(40, 4) == 7, np.nan, GOOD)
BAD_NETWORKS = {
    "no_module_at_all:build": ("can't be imported", "no_module_at_all"),
    f"{NETWORKS}:nowhere": ("can't be imported", "nowhere"),
    f"{NETWORKS}": ("MODULE:OBJECT",),
    f"{NETWORKS}:number": ("is a int", "torch.nn.Module"),
    f"{NETWORKS}:nothing": ("returns a NoneType",),
    f"{NETWORKS}:broken": ("no weights here", "exported_networks.py, line"),
    f"{NETWORKS}:with_width": ("needs width, depth;", "without arguments"),
    f"{NETWORKS}:LogGamma": ("lgamma has no operator; ", "exported_networks.py, line"),
    f"{NETWORKS}:WithText": ("must put out tensors", "'output_1' is a str"),
    f"{NETWORKS}:Summed": ("must put out tensors", "the shape ()"),
    f"{NETWORKS}:PythonNumbers": ("numpy reads the numbers", "exported_networks.py, line"),
    f"{NETWORKS}:with_nan": ("NaN", "weights"),
    f"{NETWORKS}:SmallCNN": ("samples.npz", "refuses samples of the shape (4,)"),
}
BAD_SAMPLES: dict[str, tuple[dict[str, NDArray[Any]], tuple[str, ...]]] = {
    "several": ({"x": GOOD, "y": GOOD}, ("several arrays, x, y", "--array")),
    "none": ({}, ("no array",)),
    "no samples": ({"x": GOOD[:0]}, ("'x' is empty", "(0, 4)")),
    "NaN": ({"x": WITH_NAN}, ("'x' holds NaN",)),
    "constant": ({"x": np.full((9, 4), 2.5, np.float32)}, ("nothing but 2.5",)),
    "whole numbers": ({"x": np.ones((9, 4), np.uint8)}, ("uint8", "float32")),
    "one axis": ({"x": GOOD[:, 0]}, ("(40,)", "samples in front")),
    "objects": ({"x": np.array([[None]], dtype=object)}, ("can't be read",)),
    "another shape": ({"x": samples_of((5,))}, ("refuses samples of the shape (5,)",)),
}


def refusal(name: str, path: Path, **options: Any) -> str:  # noqa: ANN401 - passed on
    with pytest.raises(InputError) as caught:
        Source.load(name, path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "parts"), BAD_NETWORKS.items())
def test_what_is_no_network_is_refused(name: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    text = refusal(name, written(tmp_path, x=GOOD))
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("case", BAD_SAMPLES)
def test_samples_that_give_no_ranges_are_refused(case: str, tmp_path: Path) -> None:
    arrays, parts = BAD_SAMPLES[case]
    text = refusal(f"{NETWORKS}:linear", written(tmp_path, **arrays))
    assert all(part in text for part in ("samples.npz", *parts)), text


def test_files_that_are_no_samples_are_refused(tmp_path: Path) -> None:
    name = f"{NETWORKS}:linear"
    assert "no such file" in refusal(name, tmp_path / "nowhere.npz")
    np.save(tmp_path / "one.npy", GOOD)
    assert "not an .npz file" in refusal(name, tmp_path / "one.npy")
    whole = written(tmp_path, x=GOOD).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "not an .npz file" in refusal(name, tmp_path / "cut.npz")
    (tmp_path / "flipped.npz").write_bytes(whole[:200] + bytes(byte ^ 255 for byte in whole[200:300]) + whole[300:])
    assert "can't be read" in refusal(name, tmp_path / "flipped.npz")
    assert "unknown array 'z'" in refusal(name, written(tmp_path, x=GOOD), array="z")
    assert "no such file" in refusal(name, written(tmp_path, x=GOOD), weights=tmp_path / "nowhere.pt")


def test_places_and_schemes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere doesn't exist"):
        require_folder_of(tmp_path / "nowhere" / "model.tflite")
    with pytest.raises(InputError, match=r"is a folder"):
        require_folder_of(tmp_path)
    with pytest.raises(InputError, match=r"unknown scheme 'int9': did you mean 'int8'"):
        integer_tflite(source_of("linear", tmp_path), ExportScheme("int9"))


def streamed(count: int = 40) -> dict[str, NDArray[np.float32]]:
    return {"x": samples_of((4,), count), "state": np.abs(samples_of((6,), count))}


def streaming(folder: Path, **arrays: NDArray[Any]) -> Source:
    return Source.load(f"{NETWORKS}:Streaming", written(folder, **(arrays or streamed())))


HEADS = ["state", "heads_0", "heads_1"]


def test_every_output_has_its_own_scale_and_its_own_ratio(tmp_path: Path) -> None:
    source = streaming(tmp_path)
    told = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "model.tflite")
    assert told.failure == ""
    assert (list(told.inputs), list(told.outputs)) == (["x", "state"], HEADS)
    scales = [output.tensor.scale for output in told.outputs.values()]
    assert len(set(scales)) == 3
    for name, output in told.outputs.items():
        assert output.parity is not None
        assert (output.parity.max, output.parity.n_outputs) == (0, source.compared_outputs[name].size)
        assert output.sqnr_db > 25, name
    assert told.sqnr_db == min(output.sqnr_db for output in told.outputs.values())
    content = json.loads(json.dumps(told.as_json(), allow_nan=False))
    assert not content.keys() & {"input", "output"}, "those of one alone"
    assert content["outputs"]["heads_1"]["sqnr_db"] == told.outputs["heads_1"].sqnr_db
    lines = [line for line in told.lines() if line.startswith(("input", "output"))]
    assert [line.split()[1] for line in lines] == ["x:", "state:", "state:", "heads_0:", "heads_1:"]
    assert all("sqnr_db" in line for line in lines[2:])


def test_the_signature_of_a_file_is_enough_to_run_it(tmp_path: Path) -> None:
    source = streaming(tmp_path)
    out = tmp_path / "model.tflite"
    told = ship(source, float_tflite(source), out)
    assert told.failure == ""
    runner = Interpreter(str(out)).get_signature_runner()
    found = runner(**{name: values[:1] for name, values in source.samples.items()})
    for name in HEADS:
        np.testing.assert_allclose(found[name], source.compared_outputs[name][:1], rtol=1e-4, atol=1e-5)


def test_several_to_onnx_where_an_output_is_called_like_an_input(tmp_path: Path) -> None:
    source = streaming(tmp_path)
    out = tmp_path / "model.onnx"
    told = ship(source, int8_onnx(source, ExportScheme()), out)
    assert told.failure == ""
    assert list(told.outputs) == HEADS
    assert OnnxModel(out.read_bytes()).border.output_names == ("state_out", "heads_0", "heads_1")
    assert all(output.parity is not None and output.parity.max <= 2 for output in told.outputs.values())


def test_one_output_outside_parity_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = LiteRTModel.codes

    def off(self: LiteRTModel, inputs: Any) -> Any:  # noqa: ANN401 - as the method
        found = exact(self, inputs)
        return {**found, "heads_1": found["heads_1"] - 9}

    monkeypatch.setattr(LiteRTModel, "codes", off)
    source = streaming(tmp_path)
    told = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "model.tflite")
    assert "output 'heads_1': outputs differ by up to 9 steps" in told.failure


def test_arrays_are_found_by_the_arguments_names(tmp_path: Path) -> None:
    given = streamed()
    source = streaming(tmp_path, state=given["state"], other=given["x"], x=given["x"])
    for name, values in given.items():
        np.testing.assert_array_equal(source.samples[name], values)
    by_number = streaming(tmp_path, arr_0=given["x"], arr_1=given["state"])
    np.testing.assert_array_equal(by_number.samples["state"], given["state"])
    assert not any("stands for" in note for note in (*source.notes, *by_number.notes))


class ByName(nn.Module):
    """Takes its input by name alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, *, gain: float = 1.0, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = gain * self.layer(x)
        return found


class ByPlace(ByName):
    """Takes its inputs by their places alone, but for the last."""

    def forward(self, a: torch.Tensor, b: torch.Tensor, /, *, c: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        found: torch.Tensor = self.layer(a) - self.layer(b) * c
        return found


@pytest.mark.parametrize(("network", "names"), [(ByName(), ["x"]), (ByPlace(), ["a", "b", "c"])])
def test_inputs_are_given_as_the_forward_takes_them(network: nn.Module, names: list[str], tmp_path: Path) -> None:
    shapes = {"a": (4,), "b": (4,), "c": (3,), "x": (4,)}
    given = {name: samples_of(shapes[name]) + place for place, name in enumerate(names)}
    source = Source.of(network, given)
    assert len(source.samples) == len(names)
    assert ship(source, integer_tflite(source, ExportScheme()), tmp_path / "model.tflite").failure == ""


def test_samples_of_one_input_stand_for_all_but_in_another_order_and_it_is_said(tmp_path: Path) -> None:
    given = samples_of((4,))
    source = Source.load(f"{NETWORKS}:Siamese", written(tmp_path, x=given))
    np.testing.assert_array_equal(source.samples["a"], given)
    np.testing.assert_array_equal(source.samples["b"], np.roll(given, 20, 0))
    told = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "model.tflite")
    assert told.failure == ""
    assert any(line.startswith("note") and "give an array for each" in line for line in told.lines())


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": samples_of((4,)), "h": samples_of((6,))}, "holds the arrays x, h, but the network takes x, state"),
        ({"x": samples_of((4,)), "state": samples_of((6,), 30)}, "40 of 'x', 30 of 'state'"),
        ({"x": samples_of((4,)), "state": samples_of((5,))}, r"refuses samples of the shape (4,) and (5,)"),
        ({"x": samples_of((4,)), "state": np.zeros((40, 6), np.float32)}, "'state' holds nothing but 0"),
    ],
)
def test_arrays_that_are_not_those_of_the_inputs_are_refused(
    arrays: dict[str, NDArray[Any]], text: str, tmp_path: Path
) -> None:
    assert text in refusal(f"{NETWORKS}:Streaming", written(tmp_path, **arrays))


def test_a_part_that_one_step_is_too_coarse_for_is_told(tmp_path: Path) -> None:
    boxes = source_of("BoxesAndScores", tmp_path)
    told = ship(boxes, integer_tflite(boxes, ExportScheme()), tmp_path / "model.tflite")
    assert told.failure == ""
    note = next(note for note in told.notes if "output" in note)
    assert note.startswith("output 'output': numbers 2, 3 of axis 1 are at ")
    assert "an output of its own" in note
    apart = source_of("BoxesApart", tmp_path)
    told = ship(apart, integer_tflite(apart, ExportScheme()), tmp_path / "model.tflite")
    assert not any("output" in note for note in told.notes)
    assert all(output.sqnr_db > 30 for output in told.outputs.values())


# Nothing wrong ships


def shipped(folder: Path, name: str, file_format: str = "tflite", **arrays: NDArray[np.float32]) -> tuple[Export, Path]:
    out = folder / "model.bin"
    source = Source.load(f"{NETWORKS}:{name}", written(folder, **(arrays or {"x": samples_of((3, 8, 8))})))
    return ship(source, exporter(file_format, None)(source), out), out


def test_norms_and_exponentials_ship_in_float32(tmp_path: Path) -> None:
    source = source_of("normed", tmp_path)
    told = ship(source, float_tflite(source), tmp_path / "m.tflite")
    assert not told.failure
    assert told.sqnr_db > 90


def test_what_float32_has_no_kernel_for_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of("mished", tmp_path)
    assert ship(source, float_tflite(source), tmp_path / "m.tflite").failure == ""
    monkeypatch.setattr("qanas.quantization.tracing.functions.term_of", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"mished' can't be exported: Mish has no kernel of float32; export it with 8"):
        float_tflite(source_of("mished", tmp_path))


def test_a_log_softmax_reaches_as_far_as_its_values(tmp_path: Path) -> None:
    source = source_of("log_probabilities", tmp_path)
    told = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "m.tflite")
    assert source.compared_outputs["output"].min() < -32
    assert told.sqnr_db > 30


@pytest.mark.parametrize("file_format", ["tflite", "tflite-float32", "onnx"])
def test_a_network_that_the_trace_does_not_see_through_is_not_written(file_format: str, tmp_path: Path) -> None:
    told, out = shipped(tmp_path, "Counts", file_format)
    assert "'between' (Counter)" in told.failure
    assert "\n" not in told.failure
    assert not out.exists()


@pytest.mark.parametrize("name", ["ByCount", "by_count"])
def test_outputs_that_depend_on_the_number_of_samples_are_a_difference(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotShippedError, match="not what torch computes"):
        source_of(name, tmp_path)


def test_a_dropout_that_stays_on_is_a_difference(tmp_path: Path) -> None:
    with pytest.raises(
        NotShippedError, match=r"AlwaysDrops: a dropout that torch applies .* \(exported_networks.py, line"
    ):
        shipped(tmp_path, "AlwaysDrops", x=samples_of((4,)))


def test_hooks_ship(tmp_path: Path) -> None:
    told, out = shipped(tmp_path, "hooked")
    assert told.failure == ""
    assert out.exists()


def test_a_file_that_the_default_kernels_can_not_load_is_not_written(tmp_path: Path) -> None:
    columns = np.array([1 / 200, 1, 1, 200], np.float32)
    samples = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    told, out = shipped(tmp_path, "uneven", x=samples * columns)
    assert "default kernels can't load" in told.failure
    assert not out.exists()


def test_weights_of_sizes_that_no_runtime_takes_are_refused(tmp_path: Path) -> None:
    columns = np.array([1e-5, 1, 1, 1e5], np.float32)
    with pytest.raises(InputError, match="LiteRT refuses the model"):
        shipped(tmp_path, "very_uneven", x=samples_of((4,)) * columns)


@pytest.mark.parametrize(("name", "kind"), [("ManyAxes", "CONCATENATION"), ("many_axes", "BATCH_MATMUL")])
def test_operators_of_too_many_axes_are_told_as_such(tmp_path: Path, name: str, kind: str) -> None:
    samples = samples_of((48,), 64)
    try:
        reason = shipped(tmp_path, name, x=samples)[0].failure
    except InputError as error:
        reason = str(error)
    assert f"{kind} has no kernel of so many axes; view what it gets with fewer" in reason


# What it is compared on


def test_the_ratio_is_of_samples_that_did_not_calibrate(tmp_path: Path) -> None:
    few = Source.load(f"{NETWORKS}:linear", written(tmp_path, x=samples_of((4,))))
    assert few.checked_on == "of the calibration"
    assert "40 samples are few" in few.notes[0]
    many = Source.load(f"{NETWORKS}:linear", written(tmp_path, x=samples_of((4,), 400)))
    assert many.checked_on == "held back from the calibration"
    assert many.notes == ()


def test_other_samples_that_reach_further_are_told_and_lower_the_ratio(tmp_path: Path) -> None:
    path = written(tmp_path, x=samples_of((4,), 400))
    check = tmp_path / "check.npz"
    np.savez(check, x=4 * samples_of((4,), 50))
    source = Source.load(f"{NETWORKS}:linear", path, check=check)
    assert source.checked_on == "of --check"
    assert len(only_of(source.samples)) == 400
    assert source.compared_count == 50
    assert "times as far" in source.notes[0]
    told = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "model.tflite")
    assert told.sqnr_db < 10
    assert told.as_json()["checked_on"] == "of --check"


def test_a_constant_hides_no_error(tmp_path: Path) -> None:
    told, _ = shipped(tmp_path, "offset", x=samples_of((4,)))
    assert told.sqnr_db < 25
    content = told.as_json()
    assert content["sqnr_db_worst_channel"] == content["outputs"]["output"]["sqnr_db_worst_channel"] <= told.sqnr_db


def test_an_output_of_one_number_needs_no_axis(tmp_path: Path) -> None:
    source = source_of("OneNumber", tmp_path)
    told = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "model.tflite")
    assert (told.failure, told.output.shape) == ("", (1,))


def test_what_a_network_prints_is_not_in_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped(tmp_path, "Prints", x=samples_of((4,)))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "(1, 4)" in printed.err


def test_a_sample_that_sets_the_step_of_all_is_told() -> None:
    samples = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    assert not [note for note in Source.of(network, samples).notes if "reaches to" in note]
    samples[17, 1] = -9999
    (note,) = [note for note in Source.of(network, samples).notes if "reaches to" in note]
    assert note.startswith("sample 17 of 'input' reaches to 9999, 95% of the samples to 2.")
    assert note.endswith("leave such samples out, or what stands for a missing value in them")


def test_an_output_that_is_lost_is_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    samples = np.random.default_rng(0).standard_normal((400, 4)).astype(np.float32)
    outlier = samples.copy()
    outlier[17, 1] = -9999
    for calibration, told in ((samples, False), (outlier, True)):
        source = Source.of(network, calibration, check=samples)
        notes = ship(source, integer_tflite(source, ExportScheme()), tmp_path / "m.tflite").notes
        assert any("hardly anything of what torch computes" in note for note in notes) == told


def test_compiled_parts_run_as_they_are_written() -> None:
    def refuse(*_: object) -> Any:  # noqa: ANN401
        pytest.fail("nothing is to be compiled")

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scaled = torch.compile(lambda x: x * torch.sigmoid(1.7 * x), backend=refuse)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scaled: torch.Tensor = self.scaled(x)
            return scaled

    samples = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    inner = cast("nn.Module", torch.compile(nn.Linear(4, 4), backend=refuse))
    for network in (nn.Sequential(inner, nn.ReLU()), nn.Sequential(nn.Linear(4, 4), Part())):
        assert integer_tflite(Source.of(network.eval(), samples), ExportScheme()).failure == ""


class Closure(nn.Module):
    """Calls its parts by a function, as nanoGPT's forerunner does."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"inner": nn.Linear(4, 8), "outer": nn.Linear(8, 4), "dropout": nn.Dropout(0.5)})
        parts = self.parts
        self.whole: Any = lambda x: parts["dropout"](parts["outer"](torch.relu(parts["inner"](x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = x + self.whole(x)
        return summed


def test_a_network_that_its_own_functions_hold_is_taken_itself() -> None:
    samples = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    network = Closure()
    told = (
        r"'Closure' can't be copied: .* holds its module 'parts\..*'; call network\.cpu\(\)\.float\(\)\.eval\(\) first"
    )
    with pytest.raises(InputError, match=told):
        Source.of(network, samples)
    assert network.training
    before = {name: values.clone() for name, values in network.eval().state_dict().items()}
    source = Source.of(network, samples)
    expected = network(torch.from_numpy(source.compared["x"])).detach().numpy()
    np.testing.assert_array_equal(source.compared_outputs["output"], expected)
    assert integer_tflite(source, ExportScheme()).failure == ""
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())


class Shares(nn.Module):
    """Each part's share of a sum that may be hardly more than 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = torch.relu(x[:, 4:5])
        shares: torch.Tensor = x[:, :4] * whole / (whole + 1e-5)
        return shares


@pytest.mark.parametrize("scheme", ["int8", "int16"])
def test_a_division_by_what_is_near_0_is_named(tmp_path: Path, scheme: str) -> None:
    source = Source.of(Shares(), np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32))
    (note,) = ship(source, integer_tflite(source, ExportScheme(scheme)), tmp_path / "m.tflite").notes
    assert "many values of 'div' are less than half of its step of 392, as some reach 1e+05" in note
    assert "16" not in note


def test_noise_from_inside_is_not_the_outputs_step() -> None:
    affine = Affine.from_range(-1.0, 1.0)
    wanted = np.stack([np.linspace(-1, 1, 50), np.linspace(-0.05, 0.05, 50)], 1).astype(np.float32)
    rounded = np.round(wanted / affine.scale) * affine.scale
    assert "too coarse" not in str(coarse_parts(wanted, (rounded + 0.03).astype(np.float32), affine))
    wanted[:, 1] /= 10
    rounded = np.round(wanted / affine.scale) * affine.scale
    assert "too coarse" in str(coarse_parts(wanted, rounded.astype(np.float32), affine))


def test_a_file_that_is_read_is_not_written_and_its_name_tells_the_format(tmp_path: Path) -> None:
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"weights")
    (tmp_path / "link.pt").symlink_to(weights)
    for out in (weights, tmp_path / "link.pt"):
        with pytest.raises(InputError, match=rf"^--out .*{out.name}: would replace what --weights reads"):
            Place.chosen(out, None, "tflite", {"--calibration": None, "--weights": weights})
    for name, file_format, told in (
        ("m.onnx", "tflite", r"name it m\.tflite, or give --format onnx"),
        ("m.tflite", "onnx", r"name it m\.onnx, or give --format tflite"),
    ):
        with pytest.raises(InputError, match=told):
            Place.chosen(tmp_path / name, None, file_format)
    assert Place.chosen(tmp_path / "m.bin", None, "onnx").path.name == "m.bin"


def test_a_channel_that_leaves_the_others_no_steps_is_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(2, 6, 3)
    network = nn.Sequential(first, nn.ReLU(), nn.Conv2d(6, 2, 3)).eval()
    with torch.no_grad():
        first.weight[4] *= 400  # as of a batch norm whose variance is next to nothing
    source = Source.of(network, samples_of((2, 8, 8), 100))
    tensor, kernel = "symmetric_per_tensor", ["layers._0.weight_scales=kernel"]
    for scheme, told in (
        (ExportScheme.parse(tensor, []), True),
        (ExportScheme.parse(tensor, kernel), False),
        (ExportScheme(), False),
    ):
        notes = ship(source, integer_tflite(source, scheme), tmp_path / "m.tflite").notes
        found = [note for note in notes if "one scale serves all" in note]
        assert [note.partition(":")[0] for note in found] == (["layer '_0'"] if told else [])


class Attends(nn.Module):
    """Every position looks at all others; what they see comes out, or how they look, too."""

    def __init__(self, weights: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.weights = weights

    def forward(self, x: torch.Tensor) -> Any:  # noqa: ANN401 - one output or two
        found, weights = self.attention(x, x, x, average_attn_weights=False)
        return (found, weights) if self.weights else found


def test_a_softmax_whose_steps_are_coarse_for_what_it_puts_out_is_told_with_the_mend(tmp_path: Path) -> None:
    def shipped(network: nn.Module, positions: int, *changes: str) -> tuple[list[str], float]:
        torch.manual_seed(0)
        source = Source.of(network, samples_of((positions, 8), 100))
        told = ship(source, integer_tflite(source, ExportScheme.parse("int8", changes)), tmp_path / "m.tflite")
        return [note for note in told.notes if "steps of 1/256" in note], told.sqnr_db

    torch.manual_seed(0)
    attends = Attends().eval()
    assert shipped(attends, 8)[0] == []
    (note,), coarse = shipped(attends, 128)
    mend = note.rpartition("--set ")[2]
    assert mend.endswith(".activation_bits=16")
    found, finer = shipped(attends, 128, mend)
    assert found == []
    assert finer > coarse + 3  # measured: 3.6
    assert shipped(Attends(weights=True).eval(), 128)[0] == []  # as an output: whoever takes it has asked for it


class AddsToItsInput(nn.Module):
    """A shortcut that is written into what the network was given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x += self.linear(x)
        return x


def test_samples_stay_as_they_are_where_a_network_changes_its_input() -> None:
    torch.manual_seed(0)
    source = Source.of(AddsToItsInput(), (samples := samples_of((4,), 100)))
    assert float_tflite(source).failure == ""
    assert np.isin(source.compared["x"], samples).all()


def weight_normed() -> nn.Module:
    return nn.utils.weight_norm(nn.Linear(4, 2))


def pruned() -> nn.Module:
    prune: Any = l1_unstructured  # torch has no types for it
    return nn.Sequential(nn.Linear(4, 8), prune(nn.Linear(8, 2), "weight", 0.5))


def with_kept_features() -> nn.Module:
    network = nn.Linear(4, 2)
    network.kept = network(torch.ones(1, 4))
    return network


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("build", [weight_normed, pruned, with_kept_features])
def test_a_network_that_holds_computed_tensors_is_exported_and_stays_as_it_is(build: Callable[[], nn.Module]) -> None:
    network = build().train()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    source = Source.of(network, samples_of((4,), 100))
    assert float_tflite(source).failure == source.failure == ""
    assert network.training
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


class Locked(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 2)
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Locked(), r"^'Locked' can't be copied: .*lock.*; export it from the command line"),
        (nn.Sequential(nn.LazyLinear(3)), r"^'Sequential' has lazy modules without weights; call it on a sample"),
    ],
)
def test_a_network_that_can_not_be_copied_is_refused_in_a_line(network: nn.Module, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Source.of(network, samples_of((4,)))


class WithAGain(nn.Module):
    """A second input that a call may leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, gain: torch.Tensor | None = None) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        return y if gain is None else y * gain


@pytest.mark.parametrize(
    ("calibrating", "checking", "told"),
    [
        ({"x": (4,)}, {"x": (4,), "gain": (1,)}, "holds samples of x and gain, the calibration those of x; give"),
        ({"x": (4,), "gain": (1,)}, {"x": (4,)}, "holds samples of x, the calibration those of x and gain; give"),
        ({"x": (4,), "gain": (1,)}, {"x": (4,), "gain": (2,)}, "samples of 'gain' have the shape .2,., those of the "),
        ({"x": (4,)}, {}, "holds no array"),
    ],
)
def test_samples_to_compare_on_are_of_the_same_inputs(
    calibrating: Mapping[str, tuple[int, ...]], checking: Mapping[str, tuple[int, ...]], told: str
) -> None:
    calibration, check = (
        {name: samples_of(shape) for name, shape in given.items()} for given in (calibrating, checking)
    )
    with pytest.raises(InputError, match=f"^check: {told}"):
        Source.of(WithAGain(), calibration, check=check)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_samples_may_be_tensors(dtype: torch.dtype) -> None:
    values = torch.from_numpy(samples_of((4,))).to(dtype)
    source = Source.of(nn.Linear(4, 2), values.requires_grad_())  # type: ignore[arg-type]  # what is given by mistake
    assert np.array_equal(source.samples["input"], values.detach().float().numpy())


def test_samples_of_several_shapes_are_no_array() -> None:
    with pytest.raises(InputError, match=r"^calibration: 'arr_0' is no array \(ValueError: .*; give one of shape"):
        Source.of(nn.Linear(4, 2), [np.zeros(4), np.zeros(5)])  # type: ignore[arg-type]  # what is given by mistake
