"""A real board on a serial port: builds the model into firmware, flashes it, and reads how long it took.

    python serial_board.py model.tflite input.bin

Your firmware project is in `firmware/`; it calls network_standalone_run() between two readings of the cycle counter,
and prints a line `cycles 123456` for each of twenty runs, then `done`. Needs pyserial, and openocd for a board with
ST-LINK: put your own commands in their place. Whatever fails here ends with an error: the search asks again, and then
goes on without this candidate.
"""

import json
import subprocess
import sys
from pathlib import Path

import serial

from qanas.deployment.standalone.model import Standalone
from qanas.deployment.tflite_reader import read_tflite

PORT, SECONDS = "/dev/ttyACM0", 30
FIRMWARE = Path(__file__).with_name("firmware")

network = Standalone.of("network", read_tflite(Path(sys.argv[1]).read_bytes()))
for file, text in network.files().items():
    if file != "main.c":  # the project has its own
        (FIRMWARE / "src" / file).write_text(text)
subprocess.run(["make", "-C", FIRMWARE], check=True, stdout=sys.stderr)
with serial.Serial(PORT, 115200, timeout=SECONDS) as port:
    flash = "program build/firmware.elf verify reset exit"
    subprocess.run(["openocd", "-f", "board/st_nucleo_h743zi.cfg", "-c", flash], cwd=FIRMWARE, check=True)
    cycles = []
    while (line := port.readline().decode().split()) != ["done"]:
        if not line:
            sys.exit(f"the board said nothing for {SECONDS} seconds")
        if line[0] == "cycles":
            cycles.append(int(line[1]))
print(json.dumps({"cycles": cycles}))
