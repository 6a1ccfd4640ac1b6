"""The app in a real terminal: first paint, the whole map, what a key costs, idling, memory."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .processes import environment, interleaved
from .report import Line, mib
from .terminal import COLUMNS, ROWS, Piece, Terminal

MIB = 1 << 20

#: The 16 TiB file of this image has 256 M clusters.
HUGE_IMAGE = "sparse-64t"
MAP_IMAGE = "allocated-1t"

FIRST_PAINT_CPU = 0.5
MAP_COMPLETE = 1.5
CURSOR_CPU, PAGE_CPU, REPAINT_CPU = 0.005, 0.025, 0.025
PEAK = 1024 * MIB
_IDLE_SECONDS = 5.0

_UP, _DOWN, _RIGHT, _LEFT = b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D"
_PAGE_UP, _PAGE_DOWN = b"\x1b[5~", b"\x1b[6~"
_MAP, _ZOOM_PANE, _ORDER, _CURVE = b"2", b"z", b"v", b"H"
_ZOOM_IN, _ZOOM_OUT, _ZOOM_ALL, _ZOOM_ONE = b"+", b"-", b"0", b"="


@dataclass
class Keys:
    """CPU seconds of the painting thread for single key presses, by what they do."""

    cursor: list[float] = field(default_factory=list)
    page: list[float] = field(default_factory=list)
    repaint: list[float] = field(default_factory=list)


def app_environment(state: Path) -> dict[str, str]:
    """So that the user's own settings and history are neither read nor written."""
    folders = {f"XDG_{kind}_HOME": str(state) for kind in ("STATE", "CONFIG", "CACHE", "DATA")}
    return {**environment(), **folders}


def first_paint(pieces: list[Piece]) -> Piece | None:
    """The first piece after which at least a third of the rows show something; None so far."""
    import pyte

    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    for piece in pieces:
        stream.feed(piece.data)
        if sum(bool(row.strip()) for row in screen.display) >= ROWS // 3:
            return piece
    return None


def map_complete(pieces: list[Piece]) -> float | None:
    """When the first job was over: when the progress line first names another one; None so far."""
    from qcowtui.views.work import HOST_MAP, OPENING

    others = [job.title.encode() for job in OPENING if job is not HOST_MAP]
    longest = max(map(len, others))
    seen = b""
    for piece in pieces:
        seen = seen[-longest:] + piece.data
        if any(title in seen for title in others):
            return piece.at
    return None


def _press(terminal: Terminal, key: bytes) -> float:
    before = terminal.main_thread_cpu
    terminal.send(key)
    terminal.until_painted()
    return terminal.main_thread_cpu - before


def press_keys(terminal: Terminal) -> Keys:
    """Drive the zoomed map; every number is one key press."""
    keys = Keys()
    for key in (_MAP, _ZOOM_PANE, _ZOOM_ALL):
        _press(terminal, key)
    for key in (_DOWN, _RIGHT, _DOWN, _RIGHT, _UP, _LEFT) * 5:
        keys.cursor.append(_press(terminal, key))
    for key in (_ZOOM_IN,) * 6 + (_PAGE_DOWN, _PAGE_UP) * 4 + (_ZOOM_OUT,) * 6:
        keys.page.append(_press(terminal, key))
    for key in (_CURVE, _CURVE, _ORDER, _ORDER, _ZOOM_ONE, _ZOOM_ALL) * 2:
        keys.repaint.append(_press(terminal, key))
    return keys


def lines(ours: str, map_image: Path, huge_image: Path, runs: int) -> Iterator[Line]:
    """All rows about the app; ``ours`` is the installed program."""
    (imported,) = interleaved([(sys.executable, "-c", "import textual.app")], max(runs, 3))
    with tempfile.TemporaryDirectory() as folder:
        variables = app_environment(Path(folder))
        paints, completes = [], []
        for image in (map_image, huge_image) * runs:
            with Terminal((ours, str(image)), variables) as terminal:
                painted = terminal.until(first_paint)
                paints.append(painted.cpu - imported.cpu)
                if image is map_image:
                    completes.append(terminal.until(map_complete) - painted.at)
        yield _line(
            "app, first paint (CPU beyond importing Textual, worst of all)",
            f"{max(paints):.3g} s",
            f"<= {FIRST_PAINT_CPU:g} s CPU",
            max(paints) <= FIRST_PAINT_CPU,
        )
        complete = sorted(completes)[len(completes) // 2]
        yield _line(
            "app, map of 1 TiB complete after the first paint",
            f"{complete:.3g} s",
            f"<= {MAP_COMPLETE:g} s",
            complete <= MAP_COMPLETE,
        )
        with Terminal((ours, str(huge_image)), variables) as terminal:
            terminal.until(first_paint)
            terminal.until_still(1.0)
            yield from _idle(terminal)
            yield from _keys(press_keys(terminal))
            yield _line(
                "app, 64 TiB with 16 TiB allocated",
                "-",
                f"<= {mib(PEAK)}",
                terminal.peak <= PEAK,
                mib(terminal.peak),
            )


def _idle(terminal: Terminal) -> Iterator[Line]:
    painted, woken, used = len(terminal.pieces), terminal.main_thread_wakeups, terminal.cpu
    terminal.read(_IDLE_SECONDS)
    paints = len(terminal.pieces) - painted
    woken = terminal.main_thread_wakeups - woken
    spent = (terminal.cpu - used) * 1000
    yield _line(
        f"app, idle for {_IDLE_SECONDS:g} s",
        f"{paints} paints, {woken} timers, {spent:.1f} ms",
        "0 paints, 0 timers",
        paints == 0 and woken == 0,
    )


def _keys(keys: Keys) -> Iterator[Line]:
    for what, costs, limit, chosen in (
        ("cursor (median)", keys.cursor, CURSOR_CPU, sorted(keys.cursor)[len(keys.cursor) // 2]),
        ("page or zoom (median)", keys.page, PAGE_CPU, sorted(keys.page)[len(keys.page) // 2]),
        ("worst repaint", keys.repaint, REPAINT_CPU, max(keys.cursor + keys.page + keys.repaint)),
    ):
        yield _line(
            f"app, {what} at {COLUMNS}x{ROWS}, 256 M clusters",
            f"{chosen * 1000:.1f} ms ({len(costs)} keys, worst {max(costs) * 1000:.1f})",
            f"<= {limit * 1000:g} ms CPU",
            chosen <= limit,
        )


def _line(what: str, ours: str, target: str, met: bool, peak: str = "-") -> Line:
    return Line((what, "-", ours, "-", "-", peak, target), met)
