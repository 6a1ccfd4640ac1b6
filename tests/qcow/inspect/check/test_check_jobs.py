"""Progress, cancelling, what is opened and what is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import qcow
from qcow.errors import Cancelled
from qcow.image.image import Image
from qcow.inspect.check import check, tables
from qcow.jobs import CancelToken, Progress
from tests.support.images import sha256, small_builder, small_image
from tests.support.opens import opened_files


def _open(path: Path) -> Image:
    image = qcow.open(path)
    assert isinstance(image, Image)
    return image


def test_progress_tells_each_phase_and_reaches_its_end(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with _open(small_image(tmp_path, cluster_bits=9)) as image:
        check(image, progress=seen.append)
    phases = list(dict.fromkeys(step.phase for step in seen))
    assert phases == [
        "reading tables",
        "comparing refcounts",
        "comparing flags",  # there is a snapshot
        "unpacking compressed clusters",
    ]
    for phase in phases:
        steps = [step for step in seen if step.phase == phase]
        assert [step.done for step in steps] == sorted(step.done for step in steps)
        assert steps[-1].fraction == 1.0


def test_without_decoding_nothing_is_unpacked(tmp_path: Path) -> None:
    image = small_builder(cluster_bits=12).build()
    at = image.l2_offset(15)
    assert at is not None
    offset, _ = image.geometry.compressed_extent(image.u64(at))
    image.patch(offset, b"\xff" * 8)
    path = image.save(tmp_path / "image.qcow2")
    with _open(path) as opened:
        assert check(opened).exit_code == 2
        assert check(opened, decode=False).exit_code == 0


@pytest.mark.parametrize("at", range(0, 12, 2))
def test_cancel_at_any_step(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "WINDOW_BYTES", 4096)

    class After(CancelToken):
        """Set when it was asked ``at`` times."""

        asked = 0

        def check(self) -> None:
            self.asked += 1
            if self.asked > at:
                self.cancel()
            super().check()

    token = After()
    path = small_image(tmp_path, cluster_bits=12)
    with _open(path) as image, pytest.raises(Cancelled):
        check(image, cancel=token)
    assert token.asked == at + 1, "it stops at once"


def test_cancel_before_the_start(tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with _open(small_image(tmp_path)) as image, pytest.raises(Cancelled):
        check(image, cancel=token)


@pytest.mark.parametrize("left", [0, 1, 512, 4096, 20_000])
def test_file_that_shrinks_while_it_is_open(tmp_path: Path, left: int) -> None:
    path = small_image(tmp_path, cluster_bits=12)
    with _open(path) as image:
        with open(path, "r+b") as file:
            file.truncate(left)
        assert check(image).exit_code == 2


def test_no_second_file_and_not_a_byte_changed(tmp_path: Path) -> None:
    builder = small_builder(cluster_bits=12)
    builder.backing("base.qcow2")
    path = builder.write(tmp_path / "image.qcow2")
    small_image(tmp_path, "base.qcow2")
    before = sha256(path), path.stat().st_mtime_ns
    with opened_files() as opened, _open(path) as image:
        check(image)
    assert opened.besides(path) == []
    assert (sha256(path), path.stat().st_mtime_ns) == before


def test_the_package_loads_no_numpy() -> None:
    code = "import qcow.inspect.check, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
