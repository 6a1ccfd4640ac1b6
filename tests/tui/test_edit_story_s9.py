"""Story S9: which snapshot eats the disk; delete it and get the space back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.images import qemu_check, sha256
from tests.support.qemu import qemu_img
from tests.support.stories import three_snapshots

from .driving import WIDE, driving

pytestmark = pytest.mark.oracle


def _content(path: Path, *options: str) -> str:
    raw = path.with_suffix(".raw")
    qemu_img("convert", *options, "-O", "raw", path, raw)
    return sha256(raw)


async def test_the_largest_snapshot_is_marked_deleted_and_compacted(tmp_path: Path) -> None:
    path = three_snapshots(tmp_path)
    length = path.stat().st_size
    kept = ("before-update", "after-update")
    golden = [_content(path), *(_content(path, "-l", name) for name in kept)]

    async with driving(path, WIDE, unlocked=True) as app:
        await app.press("4", "home", "space")
        assert "1 marked: frees 30.1 MiB" in app.text()
        await app.press("D")
        assert "30.1 MiB inside the file; R then gives it back to the host" in app.text()
        await app.press("enter", "K", "enter")
        assert "compact" in app.text()
        assert "gives back" in app.text()
        await app.press("enter")
        assert "PLANNED 2" in app.text().splitlines()[0]
        assert app.session.storage.size() <= length - 480 * 65536
        await app.press("a")
        for key in (*"compact", "enter"):
            await app.pilot.press(key)
        await app.until(lambda: app.app.screen is app.dashboard)
        await app.settle()
        assert "clean-install" not in app.text()

    assert qemu_check(path).code == 0
    assert path.stat().st_size <= length - 480 * 65536
    assert [_content(path), *(_content(path, "-l", name) for name in kept)] == golden
