"""The board of board.toml: compiles the model for an emulated Cortex-M7, runs it there, and says what it took.

    python emulated_board.py model.tflite input.bin

Needs gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm. A real board's script does the same four things:
build, flash, wait for what the board says, print it as JSON; serial_board.py is one.
"""

import json
import sys
from pathlib import Path

from qanas.deployment.boards.board import BOARDS, NAME
from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite_reader import read_tflite

model, given = map(Path, sys.argv[1:])
# The inputs are all zero, as is memory on a board that has just started: there is nothing to send.
assert not any(given.read_bytes())
network = Standalone.of(NAME, read_tflite(model.read_bytes()))
print(json.dumps({"instructions": [BOARDS["Cortex-M7"].instructions(network, "-O2", 60.0)]}))
