"""Which networks of torchvision and timm are read right: the traced float graph against torch.

Protocol: each network as its library makes it, with random weights, in evaluation mode, on a small input where its
architecture permits one. Whatever the library starts with a single value (factors of norms, biases, factors of layers
of 1e-6, positions of 0) is drawn anew, so that no part of a network is without effect: from 0.5 to 1.5 where it was not
0, else normal with a deviation of 0.1. Running statistics of batch norms are those of one batch of normal samples,
layer by layer. Compared are the outputs on other normal samples: the signal is the sum of squares of torch's, the noise
that of the differences, the worst output counts. *Right* is a network that reaches 60 dB and passes what `qanas export`
checks (`traced_difference`: also about the mean, and each sample by itself).

Detectors are compared from the image to the maps of their heads: they take lists of images of any size and give out
lists of boxes, as many as there are.

    python -m venv zoo && zoo/bin/pip install -r benchmarks/export_coverage_requirements.txt -c constraints.txt -e .
    OMP_NUM_THREADS=1 zoo/bin/python benchmarks/export_coverage.py --out docs/results/export_coverage.json

It goes on from the file that is there; `--again` repeats what is not right in it, `--only` takes other names, too.
"""

from __future__ import annotations

import argparse
import inspect
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qanas.quantization.border import named_parts
from qanas.quantization.graph import Graph, UnsupportedNetworkError
from qanas.quantization.tracing import trace, traced_difference
from qanas.quantization.tracing.difference import MIN_DB

SIZE, SAMPLES, STATISTICS = 64, 8, 16
"""Rows and columns, compared samples, and those that batch norms take their statistics from."""

TORCHVISION: dict[str, int] = {
    "alexnet": 96,
    "convnext_tiny": SIZE,
    "deeplabv3_mobilenet_v3_large": 96,
    "densenet121": SIZE,
    "efficientnet_b0": SIZE,
    "efficientnet_v2_s": SIZE,
    "googlenet": SIZE,
    "inception_v3": 96,
    "lraspp_mobilenet_v3_large": 96,
    "mnasnet0_5": SIZE,
    "mnasnet1_0": SIZE,
    "mobilenet_v2": SIZE,
    "mobilenet_v3_large": SIZE,
    "mobilenet_v3_small": SIZE,
    "regnet_x_400mf": SIZE,
    "regnet_y_400mf": SIZE,
    "resnet18": SIZE,
    "resnet50": SIZE,
    "shufflenet_v2_x0_5": SIZE,
    "shufflenet_v2_x1_0": SIZE,
    "squeezenet1_1": SIZE,
    "ssdlite320_mobilenet_v3_large": 160,
    "swin_t": SIZE,
    "vgg11_bn": SIZE,
    "vit_b_32": 224,
}
"""Classification, segmentation and detection: the name and the rows and columns of its images."""

TIMM = """
convmixer_768_32 convnext_atto convnextv2_atto cspresnet50 darknet53 deit_tiny_patch16_224 densenet121 dla46_c
edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientnet_es efficientnet_lite0
efficientvit_b0 efficientvit_m0 ese_vovnet19b_dw fastvit_t8 fbnetc_100 fbnetv3_b ghostnet_100 hardcorenas_a
hrnet_w18_small lcnet_050 levit_128s mixer_s32_224 mixnet_s mnasnet_small mobilenetv1_100 mobilenetv2_050
mobilenetv3_large_100 mobilenetv3_small_050 mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0
mobilevit_xxs mobilevitv2_050 poolformer_s12 regnetx_002 regnety_002 repvgg_a0 repvit_m0_9 res2net50_26w_4s
resmlp_12_224 resnet10t resnet18 resnext50_32x4d rexnet_100 seresnet18 spnasnet_100 starnet_s1
swin_tiny_patch4_window7_224 tf_efficientnetv2_b0 tf_mobilenetv3_small_minimal_100 tinynet_e vit_tiny_patch16_224"""
"""Edge networks, and the families that they come from."""


class Heads(nn.Module):
    """A detector from the image to the maps of its heads.

    Args:
        detector: of torchvision.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = detector.get_submodule("backbone"), detector.get_submodule("head")

    def forward(self, image: Tensor) -> Any:  # noqa: ANN401 - by name
        """Return the maps; images of shape (n, 3, rows, columns)."""
        maps = self.backbone(image)
        return self.head([maps] if isinstance(maps, Tensor) else list(maps.values()))


def declare_boxes() -> None:
    """Let torchvision be imported where its compiled part can't be loaded: that of PyPI is made for CUDA's torch."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        try:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        except RuntimeError:  # it is there
            return
    _KEPT.append(library)


_KEPT: list[Any] = []


def of_torchvision(name: str) -> nn.Module:
    """Return a network of torchvision."""
    import torchvision

    settings: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(torchvision.models.get_model_builder(name)).parameters:
        settings["weights_backbone"] = None
    if name in {"googlenet", "inception_v3"}:
        settings |= {"aux_logits": False, "init_weights": False}
    network: nn.Module = torchvision.models.get_model(name, **settings)
    return Heads(network) if hasattr(network, "anchor_generator") else network


def of_timm(name: str, size: int) -> tuple[nn.Module, int]:
    """Return a network of timm, and the rows and columns of its images."""
    import timm

    fixed = timm.get_pretrained_cfg(name)
    if fixed is None or not fixed.fixed_input_size:
        return timm.create_model(name), size
    return timm.create_model(name), fixed.input_size[-1]


@torch.no_grad()
def drawn(network: nn.Module, size: int) -> None:
    """Draw what starts with a single value, and give batch norms the statistics of a batch."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        value = float(parameter.flatten()[0])
        if parameter.numel() > 1 and bool((parameter == value).all()):
            if value == 0.0:
                parameter.normal_(0.0, 0.1, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        network(torch.randn(STATISTICS, 3, size, size, generator=generator))
    network.eval()


@torch.no_grad()
def decibels(graph: Graph, network: nn.Module, samples: Tensor) -> float:
    """Return the ratio of the worst output; samples of shape (n, 3, rows, columns)."""
    wanted = named_parts(network(samples), Tensor)
    got = graph.forward({graph.border.input_names[0]: samples})
    found = {"output": got} if isinstance(got, Tensor) else got
    ratios = []
    for name, values in wanted.items():
        exact = values.to(torch.float64)
        noise = float((found[name].to(torch.float64) - exact).square().sum())
        ratios.append(10.0 * float(torch.log10(exact.square().sum() / max(noise, 1e-300))))
    return min(ratios)


def tried(make: Callable[[], tuple[nn.Module, int]]) -> dict[str, Any]:
    """Return what became of a network."""
    torch.manual_seed(0)
    network, size = make()
    drawn(network, size)
    started = time.process_time()
    row: dict[str, Any] = {"size": size, "parameters": sum(tensor.numel() for tensor in network.parameters())}
    try:
        graph = trace(network, (3, size, size))
    except UnsupportedNetworkError as error:
        return {**row, "outcome": "refused", "reason": str(error)}
    row |= {"trace_seconds": round(time.process_time() - started, 2), "operators": len(graph.nodes)}
    samples = torch.randn(SAMPLES, 3, size, size, generator=torch.Generator().manual_seed(2))
    ratio = decibels(graph, network, samples)
    row["db"] = round(ratio, 1)
    apart = traced_difference(graph, network, samples)
    if apart is not None or ratio < MIN_DB:
        return {**row, "outcome": "wrong", "reason": apart or "below the bound"}
    return {**row, "outcome": "right"}


def networks(only: Sequence[str]) -> Iterator[tuple[str, Callable[[], tuple[nn.Module, int]]]]:
    """Yield the wanted networks by library and name, and what makes each."""
    chosen = only or [*(f"torchvision {name}" for name in TORCHVISION), *(f"timm {name}" for name in TIMM.split())]
    for entry in chosen:
        library, _, name = entry.partition(" ")
        if library == "torchvision":
            size = TORCHVISION.get(name, SIZE)
            yield entry, lambda name=name, size=size: (of_torchvision(name), size)  # type: ignore[misc]
        else:
            yield entry, lambda name=name: of_timm(name, SIZE)  # type: ignore[misc]


HEAD = """# Networks of torchvision and timm: the traced float graph against torch

{counts}

Random weights, normal samples; a network is *right* from {bound:g} dB on, and where it passes what `qanas export`
checks, too. Detectors are compared from the image to the maps of their heads. Rows are kept from run to run, and what
was not right was run again once the exporter was mended: so this says what is covered, not which share of other
networks would be ([random ones](export_fuzz.md) are nearer to that). The protocol is at the head of
[benchmarks/export_coverage.py](../../benchmarks/export_coverage.py), all figures are in
[export_coverage.json](export_coverage.json).

| network | side of the image | parameters | operators | traced in s | dB |
|---|---:|---:|---:|---:|---:|
"""


def table(found: dict[str, Any]) -> str:
    """Return the results as a page."""
    rows = found["networks"]
    counts = []
    for library in ("torchvision", "timm"):
        own = [row for name, row in rows.items() if name.startswith(f"{library} ")]
        right = sum(row["outcome"] == "right" for row in own)
        counts.append(f"{library} {found['versions'][library]}: {right} of {len(own)} right")
    text = HEAD.format(counts="; ".join(counts) + ".", bound=MIN_DB)
    for name, row in sorted(rows.items()):
        known = [f"{row[key]:,}" if key in row else "" for key in ("size", "parameters", "operators", "trace_seconds")]
        told = f"{row['db']:.1f}" if row["outcome"] == "right" else f"{row['outcome']}: {row['reason']}"
        text += f"| {' | '.join((name, *known, told))} |\n"
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return f"{text}\nVersions: {versions}.\n"


def main() -> None:
    """Try every network that the file does not have yet, and write the file and the table beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/export_coverage.json"))
    parser.add_argument("--only", nargs="*", default=(), help="such as 'timm resnet18'")
    parser.add_argument("--again", action="store_true", help="repeat what is not right")
    options = parser.parse_args()
    declare_boxes()
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"networks": {}}
    rows = found["networks"]
    versions = {name: version(name) for name in ("torch", "torchvision", "timm")} | {
        "python": platform.python_version()
    }
    if found.setdefault("versions", versions) != versions:
        parser.error(f"{options.out} is of {found['versions']}, here is {versions}: begin another file with --out")
    for name, make in networks(options.only):
        if name in rows and not (options.again and rows[name]["outcome"] != "right"):
            continue
        try:
            rows[name] = tried(make)
        except Exception as error:  # noqa: BLE001 - the library's, or a traceback of ours: it is told
            rows[name] = {"outcome": "traceback", "reason": f"{type(error).__name__}: {error}"[:300]}
        print(name, rows[name], flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(found))


if __name__ == "__main__":
    main()
