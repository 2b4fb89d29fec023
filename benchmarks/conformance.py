"""Outputs of networks in TFLite Micro with CMSIS-NN, on an emulated Cortex-M55, against the simulation.

    PYTHONPATH=. QANAS_CMSIS_NN=.../mlek_inference_runner.axf python benchmarks/conformance.py docs/results

Arm's own build of both runs in QEMU (tests/deployment/cmsis_nn.py says where it is from). Networks are those of the
tests, and LSTMs of more sizes, with random weights; two inputs of random codes each, the second of ends alone. Beside
the outputs that differ: by how many steps at most, and the arena that was used against the one that firmware declares.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tests.deployment import cmsis_nn
from tests.deployment.conformance import cases, held


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as place:
        runner = cmsis_nn.patched(Path(place))
        for name, network in cases().items():
            try:
                found[name] = held(network, runner)
            except AssertionError as error:
                found[name] = {"failed": str(error)}
            print(name, found[name], flush=True)
            out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
