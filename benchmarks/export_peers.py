"""SQNR of int8 .tflite files on other samples than those of the calibration: by qanas, and by ai-edge-quantizer.

Both quantize the same float graph, the file that qanas writes in float32, with true minima and maxima. Networks are the
modules of a folder that have a ``build``, samples an .npz file of the same name each; what is compared on is drawn anew
from a normal distribution of each array's mean and deviation. *Plain* is qanas without biases that take up the mean
error of rounded weights. dB are about the mean of each channel, of the worst output, with LiteRT's reference kernels.

    python -m venv peers && peers/bin/pip install -r benchmarks/export_requirements.txt -e .
    OMP_NUM_THREADS=1 peers/bin/python benchmarks/export_peers.py FOLDER SAMPLES --out docs/results/export_peers.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qanas.core.errors import InputError
from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.exporting.export import float_tflite
from qanas.exporting.report import ratios_about_mean
from qanas.exporting.scheme import ExportScheme
from qanas.exporting.source import Source
from qanas.quantization.quantized_graph import QuantizedGraph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

COMPARED = 256
"""Samples that are compared, drawn anew."""

PEERS = ("ai-edge-quantizer", "ai-edge-litert", "torch")


def source_of(module: str, samples: Path) -> Source:
    """Return a network with its samples and others to be compared on."""
    generator = np.random.default_rng(99)
    with np.load(samples) as file, tempfile.TemporaryDirectory() as folder:
        arrays = {name: file[name] for name in file.files}
        check = Path(folder) / "check.npz"
        drawn = {
            name: (generator.standard_normal((COMPARED, *values.shape[1:])) * values.std() + values.mean())
            for name, values in arrays.items()
        }
        np.savez(check, allow_pickle=False, **{name: values.astype(np.float32) for name, values in drawn.items()})
        return Source.load(f"{module}:build", samples, check=check)


def with_names(content: bytes) -> bytes:
    """Return a file whose tensors all have names: the peers need some."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for graph in model.subgraphs:
        for number, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name or f"tensor_{number}".encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def by_peers(source: Source) -> bytes:
    """Return the file that ai-edge-quantizer makes of the float graph."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import calibrator, quantizer, recipe
    from ai_edge_quantizer.utils import qsv_utils

    content = with_names(float_tflite(source).content)
    peer = quantizer.Quantizer(content, recipe.static_wi8_ai8())
    ranges = calibrator.Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    (signature,) = Interpreter(model_content=content).get_signature_list()
    ports = {port.name: port.order for port in source.graph.border.inputs}
    stored = {
        name: np.ascontiguousarray(values.transpose(ports[name].to_stored(values.ndim)))
        for name, values in source.samples.items()
    }
    count = len(next(iter(stored.values())))
    data = [{name: values[n : n + 1] for name, values in stored.items()} for n in range(count)]
    ranges.calibrate({signature: data}, peer._recipe_manager)  # there is no public way
    return bytes(peer.quantize(ranges.get_model_qsvs()).quantized_model)


def worst(source: Source, outputs: Mapping[str, NDArray[np.float32]]) -> float:
    """Return the dB of the worst output, each of shape (n, *shape)."""
    return round(min(ratios_about_mean(y, outputs[name])[0] for name, y in source.compared_outputs.items()), 2)


def compared(module: str, samples: Path) -> dict[str, Any]:
    """Return both sides' dB and bytes of one network."""
    with contextlib.redirect_stderr(io.StringIO()):
        source = source_of(module, samples)
    chosen = ExportScheme()
    plain = QuantizedGraph.quantize(
        source.graph, source.graph.calibrate(source.tensors, chosen.scheme), chosen.scheme
    ).program()
    files = {"qanas": write_tflite(chosen.quantize(source).program()), "plain": write_tflite(plain)}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        files["peers"] = by_peers(source)
    found: dict[str, Any] = {}
    for name, content in files.items():
        try:
            model = LiteRTModel(content, border=source.graph.border)
        except ValueError:  # the reference kernels lack some that the peers leave in float32
            model = LiteRTModel(content, "optimized", source.graph.border)
        found[name] = {"sqnr_db": worst(source, model.predict(source.compared)), "file_bytes": len(content)}
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="modules with a build")
    parser.add_argument("samples", type=Path, help="a folder of .npz files, named as the modules")
    parser.add_argument("--only", nargs="+", help="modules")
    parser.add_argument("--out", type=Path, help="JSON file; results of other modules in it are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(options.folder))
    versions = {package: version(package) for package in PEERS}
    kept = json.loads(options.out.read_text("utf-8")) if options.out is not None and options.out.is_file() else {}
    if kept.get("versions", versions) != versions:
        parser.error(f"{options.out} is of {kept['versions']}, here is {versions}: begin another file with --out")
    networks: dict[str, Any] = kept.get("networks", {})
    for path in sorted(options.folder.glob("*.py")):
        if not options.only or path.stem in options.only:
            try:
                networks[path.stem] = compared(path.stem, options.samples / f"{path.stem}.npz")
            except (InputError, ValueError) as error:
                networks[path.stem] = {"refused": str(error)[:160]}
            print(path.stem, json.dumps(networks[path.stem]), flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps({"versions": versions, "networks": networks}, indent=1) + "\n")


if __name__ == "__main__":
    main()
