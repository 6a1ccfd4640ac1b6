"""An image that QEMU is writing to: shown as it changes, and free again when QEMU leaves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qcow.inspect.classes import ClusterClass
from qcowtui.views.session import PartState
from tests.support.live import io_command, io_session
from tests.support.qemu import qemu_img

from .driving import WIDE, Driven, driving


def data_clusters(app: Driven) -> int:
    host_map = app.session.host_map
    return 0 if host_map is None else int(host_map.counts[ClusterClass.DATA])


@pytest.mark.oracle
async def test_a_live_image_follows_its_writer_and_is_free_when_it_leaves(tmp_path: Path) -> None:
    path = tmp_path / "live.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    with io_session(path) as session:
        io_command(session, "write 0 1M")
        io_command(session, "flush")
        async with driving(path, WIDE) as app:
            assert app.session.live
            await app.until(lambda: "IN USE qemu-io " in app.text())
            assert f"IN USE qemu-io {session.pid} · LIVE" in app.text()
            assert data_clusters(app) == 16
            assert app.session.check is None
            assert "NOT CHECKED" in app.text()
            io_command(session, "write 8M 2M")
            io_command(session, "flush")
            await app.until(lambda: data_clusters(app) == 48)
            session.kill()
            session.wait()
            gone = time.monotonic()
            await app.until(lambda: not app.session.live)
            assert time.monotonic() - gone < 2.0
            await app.until(lambda: app.session.check is not None)
            await app.settle()
            assert "IN USE" not in app.text()
            assert "OK" in app.text().splitlines()[0]
            assert app.dashboard._watcher is None


@pytest.mark.oracle
async def test_a_live_image_is_checked_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "live.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    with io_session(path) as session:
        io_command(session, "write 0 1M")
        async with driving(path, WIDE) as app:
            assert app.session.check is None
            await app.press("c")
            await app.until(lambda: app.session.check is not None)


@pytest.mark.oracle
async def test_a_writer_can_come_back_only_while_nobody_looks(tmp_path: Path) -> None:
    """A reader's lock is QEMU's own: what `qemu-img info` would refuse is refused to QEMU too."""
    path = tmp_path / "held.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    async with driving(path, WIDE) as app:
        assert not app.session.live
        refused = qemu_img("resize", path, "128M", check=False)
        assert b"lock" in refused.stderr
    assert qemu_img("resize", path, "128M", check=False).returncode == 0


async def test_an_image_nobody_uses_starts_no_timer(demo: Path) -> None:
    async with driving(demo / "web01.qcow2", WIDE) as app:
        await app.until(lambda: app.session.states and not app.dashboard.runner.busy)
        assert app.dashboard._watcher is None
        assert PartState.PARTIAL not in app.session.states.values()
