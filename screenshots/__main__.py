"""Draw every picture of the README anew: ``python -m screenshots [NAME ...]``."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
WIDE, NARROW = (160, 48), (80, 24)


@dataclass(frozen=True)
class Shot:
    """A picture: which sample image, and the keys pressed before it is taken."""

    name: str
    image: str
    keys: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = (WIDE, NARROW)


SHOTS = (
    Shot("dashboard", "web01.qcow2", ()),
    Shot("map-host", "web01.qcow2", ("2", "z")),
    Shot("map-guest", "web01.qcow2", ("2", "z", "v", "g", *"3.32G", "enter", *"++++++")),
    Shot("findings", "files-corrupt.qcow2", ("6", "z", "down", "down")),
    Shot("snapshots", "web01.qcow2", ("4", "z", "down", "down")),
    Shot("chain", "web01.qcow2", ("5", "z", "f", "down", "enter", "down", "s")),
)


async def draw(shot: Shot, size: tuple[int, int]) -> Path:
    """Drive the app to the screen of ``shot`` and save it."""
    from qcowtui.tui.app import QcowApp
    from qcowtui.views.session import open_session

    from .picture import save

    session = open_session(shot.image)
    app = QcowApp(session)
    async with app.run_test(size=size) as pilot:
        await settle(pilot, app)
        for key in shot.keys:
            await pilot.press(key)
            await settle(pilot, app)
        path = FOLDER / f"{shot.name}-{size[0]}x{size[1]}.png"
        save(app, path)
    return path


async def settle(pilot: object, app: object) -> None:
    """Wait until no worker runs and the screen was painted."""
    for _ in range(200):
        await pilot.pause(0.05)  # type: ignore[attr-defined]
        if not any(worker.is_running for worker in app.workers):  # type: ignore[attr-defined]
            break
    await pilot.pause(0.2)  # type: ignore[attr-defined]


def main(names: list[str]) -> None:
    from qcowtui.samples.demo_set import write_demo_set

    # What a good terminal offers, wherever this runs; no state or keymap of the user's.
    for name in [*os.environ]:
        if name.startswith("TEXTUAL") or name in ("NO_COLOR", "FORCE_COLOR"):
            del os.environ[name]
    os.environ["COLORTERM"] = "truecolor"
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            os.environ[variable] = str(Path(folder) / variable)
        images = Path(folder) / "images"
        images.mkdir()
        write_demo_set(images)
        os.chdir(images)  # the pictures show plain file names
        for shot in SHOTS:
            if names and shot.name not in names:
                continue
            for size in shot.sizes:
                path = asyncio.run(draw(shot, size))
                print(f"{path.name}  {path.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
