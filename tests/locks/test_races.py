"""Writers that come at the same moment: never two of them get in."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

PROCESSES = 4
ROUNDS = 2000

#: Takes part in every round; who has the lock makes a file that must not be there yet.  The start
#: of a round is a moment on the common clock, so that all try at once.
_RACER = """
import os, sys, time
from qcow.errors import LockedError
from qcow.storage.locks import ImageLock, LockMode
from qcow.storage.writable import open_local_writable
image, marker, start, rounds, step = sys.argv[1:4] + [int(sys.argv[4]), float(sys.argv[5])]
start, won, clashes = float(start), [], 0
for number in range(rounds):
    while time.monotonic() < start + number * step:
        pass
    with open_local_writable(image) as file:
        lock = ImageLock()
        try:
            lock.acquire(file.fileno(), LockMode.WRITER)
        except LockedError:
            continue
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            won.append(number)
            os.unlink(marker)
        except FileExistsError:
            clashes += 1
        lock.release()
print(clashes, *won)
"""


def test_never_two_winners(tmp_path: Path) -> None:
    image, marker = tmp_path / "image", tmp_path / "marker"
    image.write_bytes(bytes(512))
    step = 0.002
    start = time.monotonic() + 1.0
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, image, marker, str(start), str(ROUNDS), str(step)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        results = [list(map(int, racer.communicate(timeout=120)[0].split())) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
    assert [clashes for clashes, *_ in results] == [0] * PROCESSES
    won = [number for _, *rounds in results for number in rounds]
    # Trying again after a random pause, somebody gets in, and hardly anybody never does.
    assert len(set(won)) >= ROUNDS * 0.99
    assert len(won) >= ROUNDS * PROCESSES * 0.9
