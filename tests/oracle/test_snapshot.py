"""``snapshot -l`` beside qemu-img: the same table, whatever the names are."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.text import safe
from tests.oracle.catalogue.base import Variant
from tests.oracle.catalogue.snapshots import HOSTILE_NAMES
from tests.oracle.conftest import ByName
from tests.oracle.variants import each
from tests.support.cli import qcowtui, qcowtui_process
from tests.support.qemu import qemu_img, with_key

pytestmark = pytest.mark.oracle


@each(without="hostile")
def test_table_is_qemus(variant: Variant, image: Path) -> None:
    where = next((with_key(image, k) for k in ("luks", "aes") if k in variant.tags), (image,))
    theirs = qemu_img("snapshot", "-l", *where)
    ours = qcowtui("snapshot", "-l", image)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert (ours.code, ours.stderr) == (0, b"")


@each(having="hostile")
def test_hostile_names_are_shown_harmlessly(image: Path) -> None:
    ours = qcowtui("snapshot", "-l", image)
    lines = ours.stdout.decode().splitlines()
    assert len(lines) == 2 + len(HOSTILE_NAMES)
    for number, (name, line) in enumerate(zip(HOSTILE_NAMES, lines[2:], strict=True), 1):
        assert line.isprintable()
        assert line.startswith(f"{number:<9} {safe(name)} ")
    assert ours.code == 0


def test_raw_has_no_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(100_000))
    theirs = qemu_img("snapshot", "-l", path)
    ours = qcowtui("snapshot", "-l", path)
    assert (ours.code, ours.stdout) == (theirs.returncode, theirs.stdout)


@pytest.mark.parametrize("name", ["snapshots-vm-state", "snapshots-twenty"])
@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns"])
def test_dates_follow_the_time_zone(name: str, zone: str, by_name: ByName) -> None:
    image = by_name(name)
    theirs = qemu_img("snapshot", "-l", image, env={"TZ": zone})
    ours = qcowtui_process("snapshot", "-l", image, env={"TZ": zone})
    assert (ours.code, ours.stdout.decode()) == (0, theirs.stdout.decode())
