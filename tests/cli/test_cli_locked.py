"""An image that QEMU holds: refused as qemu-img refuses it, the holder named, -U looks anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import qcowtui
from tests.support.images import small_image
from tests.support.live import nbd_server
from tests.support.qemu import qemu_img

pytestmark = pytest.mark.oracle


def test_refused_with_qemus_words_and_the_holder(tmp_path: Path) -> None:
    image = small_image(tmp_path)
    with nbd_server(image) as server:
        theirs = qemu_img("info", image, check=False)
        ours = qcowtui("info", image)
        assert ours.code == theirs.returncode == 1
        assert ours.stdout == b""
        said = ours.stderr.decode().splitlines()
        assert [line.replace("qcowtui: ", "qemu-img: ") for line in said[:2]] == (
            theirs.stderr.decode().splitlines()
        )
        assert said[2] == f"It is open for writing by qemu-nbd (pid {server.pid})."
        assert said[3].startswith("With -U ")
        for verb in (("check",), ("map",), ("space",), ("audit",), ("chain",), ()):
            assert qcowtui(*verb, image).code == 1
        assert qcowtui("compare", image, image).code == 2


@pytest.mark.parametrize("flag", ["-U", "--force-share"])
def test_force_share_looks_anyway(flag: str, tmp_path: Path) -> None:
    image = small_image(tmp_path)
    with nbd_server(image):
        theirs = qemu_img("info", "-U", "--output=json", image)
        ours = qcowtui("info", flag, "--output=json", image)
        assert (ours.code, ours.stdout) == (0, theirs.stdout)
        assert qcowtui("map", flag, "--output=json", image).code == 0
        assert qcowtui(flag, image).code == 0


def test_a_reader_is_no_hindrance(tmp_path: Path) -> None:
    image = small_image(tmp_path)
    with nbd_server(image, "-r"):
        assert qcowtui("check", image).code == 0
