"""Draw every picture of the README anew: ``python -m screenshots [NAME ...]``."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from qcow.jobs import Progress, ProgressCallback
    from qcowtui.tui.app import QcowApp

FOLDER = Path(__file__).resolve().parent
WIDE, NARROW = (160, 48), (80, 24)


@dataclass(frozen=True)
class Shot:
    """A picture: which sample image, and the keys pressed before it is taken.

    ``changes`` allows them.  ``halfway`` holds what is applied there.
    """

    name: str
    image: str
    keys: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = (WIDE, NARROW)
    changes: bool = False
    halfway: bool = False


#: Two snapshots marked; their deletion and a new snapshot planned.
_DELETE = ("4", "home", "space", "down", "space")
_STAGED = (*_DELETE, "D", "enter", "S", *"before-cleanup", "enter", "enter")
_COMPACTED = ("S", *"before", "enter", "enter", "K", "down", "down", "enter", "enter")

SHOTS = (
    Shot("dashboard", "web01.qcow2", ()),
    Shot("map-host", "web01.qcow2", ("2", "z")),
    Shot("map-guest", "web01.qcow2", ("2", "z", "v", "g", *"3.32G", "enter", *"++++++")),
    Shot("findings", "files-corrupt.qcow2", ("6", "z", "down", "down")),
    Shot("snapshots", "web01.qcow2", ("4", "z", "down", "down")),
    Shot("chain", "web01.qcow2", ("5", "z", "f", "down", "enter", "down", "s")),
    Shot("plan", "web01.qcow2", (*_DELETE, "D"), changes=True),
    Shot("planned", "web01.qcow2", (*_STAGED, "2"), changes=True),
    Shot(
        "apply",
        "db-fragmented.qcow2",
        (*_COMPACTED, "a", *"compact", "enter"),
        changes=True,
        halfway=True,
    ),
    Shot("repair", "mail-leaks.qcow2", ("E",), changes=True),
    Shot("repair-choice", "mail-leaks.qcow2", ("E", "1"), changes=True),
    Shot("repair-plan", "mail-leaks.qcow2", ("E", "p"), changes=True),
    Shot("repaired", "mail-leaks.qcow2", ("E", "p", "a"), changes=True),
    Shot("history", "web01.qcow2", (*_STAGED, "a", "y", "u", "enter", "T"), changes=True),
)


async def draw(shot: Shot, size: tuple[int, int]) -> Path:
    """Drive the app to the screen of ``shot`` and save it."""
    from qcowtui.tui.app import QcowApp
    from qcowtui.views.session import open_session

    from .picture import save

    path = FOLDER / f"{shot.name}-{size[0]}x{size[1]}.png"
    held = Holding() if shot.halfway else None
    session = open_session(shot.image)
    session.unlocked = shot.changes
    app = QcowApp(session)
    async with app.run_test(size=size) as pilot:
        await settle(pilot, app, held)
        for key in shot.keys:
            await pilot.press(key)
            await settle(pilot, app, held)
        save(app, path)
        if held is not None:
            held.release()
            await settle(pilot, app, held)
    return path


class Holding:
    """Holds a change that is being applied when it is half done, until it is released."""

    def __init__(self) -> None:
        from qcowtui.views.changes import applying

        self.reached = threading.Event()
        self._free = threading.Event()
        real = applying.apply_all

        def slowly(*args: Any, progress: ProgressCallback, **options: Any) -> applying.Report:
            def tell(step: Progress) -> None:
                progress(step)
                if step.total > 1 and 0.3 <= step.fraction < 1:
                    self.reached.set()
                    self._free.wait(60)

            return real(*args, progress=tell, **options)

        applying.apply_all = slowly

    @property
    def holds(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.reached.is_set() and not self._free.is_set()

    def release(self) -> None:
        """Let it go on."""
        self._free.set()


async def settle(pilot: Pilot[int], app: QcowApp, held: Holding | None) -> None:
    """Wait until nothing is at work, or what is held has been reached, and for the last paint."""
    from qcowtui.tui.screens.change_panel import ChangePanel
    from qcowtui.tui.screens.dashboard import Dashboard

    for _ in range(400):
        await pilot.pause(0.05)
        panel = app.screen
        board = next(screen for screen in app.screen_stack if isinstance(screen, Dashboard))
        working = isinstance(panel, ChangePanel) and panel.at_work
        working = working or board.runner.busy or board.finding_out
        if not working or (held is not None and held.holds):
            break
    await pilot.pause(0.3)


def main(names: list[str]) -> None:
    from qcowtui.samples.demo_set import write_demo_set

    # What a good terminal offers, wherever this runs; no state or keymap of the user's.
    for name in [*os.environ]:
        if name.startswith("TEXTUAL") or name in ("NO_COLOR", "FORCE_COLOR"):
            del os.environ[name]
    os.environ["COLORTERM"] = "truecolor"
    for shot in SHOTS:
        if names and shot.name not in names:
            continue
        for size in shot.sizes:
            with tempfile.TemporaryDirectory() as folder:
                for variable in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
                    os.environ[variable] = str(Path(folder) / variable)
                images = Path(folder) / "images"
                images.mkdir()
                write_demo_set(images)
                os.chdir(images)  # the pictures show plain file names
                path = asyncio.run(draw(shot, size))
                os.chdir(FOLDER)
            print(f"{path.name}  {path.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
