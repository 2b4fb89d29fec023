"""Flash and RAM as they are estimated from shapes, beside what was linked (docs/results/standalone.json).

PYTHONPATH=.:benchmarks python benchmarks/footprint.py docs/results/standalone.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from qanas.deployment.standalone.footprint import STACK_BYTES, Optimized, estimated
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_shapes
from standalone import NETWORKS

OPTIONS: tuple[Optimized, ...] = ("-Os", "-O2")


def main() -> None:
    """Print a row a network and option."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("linked", type=Path)
    linked = json.loads(parser.parse_args().linked.read_text("utf-8"))
    for name, (build, shape) in NETWORKS.items():
        graph = trace_shapes(lambda build=build: build().eval(), shape)  # type: ignore[misc]
        program = QuantizedGraph.from_shapes(graph, Scheme()).program()
        for optimized in OPTIONS:
            found, exact = estimated(program, optimized), linked[name][f"Cortex-M4, {optimized}"]
            off = found.flash_bytes / exact["flash_bytes"] - 1
            ram = found.ram_bytes - STACK_BYTES - exact["ram_bytes"]
            print(f"{name} {optimized}: flash {found.flash_bytes:,}, {off:+.1%}; RAM {ram:+d}", flush=True)


if __name__ == "__main__":
    main()
