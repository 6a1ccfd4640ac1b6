"""The feature bit for extended L2 entries, cleared by damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repair.poking import Poked
from tests.support.edited import contents
from tests.support.qemu import qemu_io

from .healing import assert_healed, golden, offered

pytestmark = pytest.mark.oracle
EXTENDED = 1 << 4


def clear(path: Path) -> None:
    poked = Poked(path.read_bytes())
    poked.set_header("incompatible_features", poked.header("incompatible_features") & ~EXTENDED)
    path.write_bytes(poked.file)


@pytest.mark.parametrize("options", ["extended_l2=on", "extended_l2=on,cluster_size=16k"])
@pytest.mark.parametrize("snapshots", [False, True])
def test_the_bit_comes_back(tmp_path: Path, options: str, snapshots: bool) -> None:
    image = golden(tmp_path / "image.qcow2", options, snapshots=snapshots)
    qemu_io(image, "write -P 7 20M 2k", "write -z 21M 64k", "write -P 8 63M 3k")
    wanted = contents(image)
    clear(image)
    assert offered(image)["extended-l2"] == "extended"
    done = assert_healed(image, wanted)
    assert not done.outcome.loses
    assert not done.outcome.facts["left"]


def test_an_image_without_it_is_left_alone(tmp_path: Path) -> None:
    image = golden(tmp_path / "image.qcow2")
    poked = Poked(image.read_bytes())
    for entry in poked.data(shared=False)[:5]:
        poked.set(entry.at, entry.word | 1 << 57)
    image.write_bytes(poked.file)
    assert "extended-l2" not in offered(image)
