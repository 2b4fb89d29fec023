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
network = Standalone.of(NAME, read_tflite(model.read_bytes()))
done = BOARDS["Cortex-M7"].inference(network, "-O2", 60.0, given.read_bytes())
# Outputs may be left out; where they are told, they are held against LiteRT's.
outputs = [code - 256 if code > 127 else code for code in done.outputs]
print(json.dumps({"instructions": [done.instructions], "outputs": outputs}))
