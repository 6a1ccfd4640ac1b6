"""A bitmap in use whose table no longer fits the disk: QEMU opens the image, and so do we."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import qcow
from qcow.image.image import Image
from tests.support.images import patch
from tests.support.qemu import qemu_img

pytestmark = pytest.mark.oracle

_GROWN = 1 << 40


def _outdated(path: Path, *, in_use: bool) -> Path:
    """A bitmap made for 10 GiB in an image whose header then says 1 TiB."""
    qemu_img("create", "-q", "-f", "qcow2", path, "10G")
    qemu_img("bitmap", "--add", path, "dirty")
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        assert image.bitmap_directory is not None
        directory = image.bitmap_directory[0]
    patch(path, directory + 12, struct.pack(">I", int(in_use)))
    patch(path, 24, struct.pack(">Q", _GROWN))
    patch(path, 36, struct.pack(">I", _GROWN >> 29))
    return path


@pytest.mark.parametrize("in_use", [True, False])
def test_only_a_bitmap_in_use_may_be_outdated(tmp_path: Path, in_use: bool) -> None:
    path = _outdated(tmp_path / "a.qcow2", in_use=in_use)
    accepted = qemu_img("info", path, check=False).returncode == 0
    assert accepted == in_use
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        codes = [finding.code for finding in image.problems]
        assert (image.refused is None) == accepted
    expected = "QCOW-BITMAP-IN-USE" if in_use else "QCOW-BITMAPS-INVALID"
    assert codes == [expected]
