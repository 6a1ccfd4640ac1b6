"""``map`` beside qemu-img: byte-identical JSON text and human tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle.catalogue.base import Variant
from tests.oracle.conftest import ByName
from tests.oracle.variants import each
from tests.support.cli import qcowtui, qcowtui_process
from tests.support.qemu import qemu_img, with_key

pytestmark = pytest.mark.oracle


def _grant(variant: Variant) -> tuple[str, ...]:
    """What is beyond this program's own rules for a second file has to be granted."""
    return ("--follow",) if variant.tags & {"follow", "data-file"} else ()


@each(without="encrypted unreadable")
def test_json_is_byte_identical(variant: Variant, image: Path) -> None:
    theirs = qemu_img("map", "--output=json", image, check=False)
    ours = qcowtui("map", "--output=json", *_grant(variant), image)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert ours.code == theirs.returncode


@each(without="encrypted unreadable")
def test_human_table_is_identical(variant: Variant, image: Path) -> None:
    """Also where qemu-img gives up at a compressed cluster: then with its exit code."""
    theirs = qemu_img("map", image, check=False)
    ours = qcowtui("map", *_grant(variant), image)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert ours.code == theirs.returncode
    if theirs.returncode:
        assert b"File contains external, encrypted or compressed clusters." in ours.stderr


@each(having="encrypted")
def test_encrypted_image_is_mapped_without_its_key(variant: Variant, image: Path) -> None:
    key = "luks" if "luks" in variant.tags else "aes"
    theirs = qemu_img("map", "--output=json", *with_key(image, key))
    ours = qcowtui("map", "--output=json", image)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert ours.code == 0


@each(having="unreadable")
def test_a_damaged_mapping_ends_with_qemus_code(image: Path) -> None:
    for output in ("human", "json"):
        theirs = qemu_img("map", f"--output={output}", image, check=False)
        ours = qcowtui("map", f"--output={output}", image)
        assert ours.code == theirs.returncode == 1
        assert ours.stderr


WINDOWS = [
    ("-s", "0", "-l", "64k"),
    ("-s", "100k", "-l", "1000k"),
    ("--start-offset=1M",),
    ("--max-length=0x90000",),
    ("-s", "1.5M", "-l", "512"),
    ("-s", "1536"),
]


@pytest.mark.parametrize("window", WINDOWS, ids=" ".join)
@pytest.mark.parametrize(
    "name",
    ["written", "snapshots-three", "backing-three-deep", "extended-l2-65536", "compressed-zlib"],
)
def test_a_window_of_the_disk(name: str, window: tuple[str, ...], by_name: ByName) -> None:
    image = by_name(name)
    theirs = qemu_img("map", "--output=json", *window, image)
    ours = qcowtui("map", "--output=json", *window, image)
    assert ours.stdout.decode() == theirs.stdout.decode()


def test_raw_file(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(b"x" * 5000)
        file.seek(1 << 20)
        file.write(b"y" * 70_000)
        file.truncate(3 << 20)
    for output in ("human", "json"):
        theirs = qemu_img("map", "-f", "raw", f"--output={output}", path)
        ours = qcowtui("map", "-f", "raw", f"--output={output}", path)
        assert ours.stdout.decode() == theirs.stdout.decode()


@pytest.mark.parametrize("name", ["backing-three-deep", "scattered-4k"])
def test_as_a_whole_process(name: str, by_name: ByName) -> None:
    image = by_name(name)
    theirs = qemu_img("map", "--output=json", image)
    ours = qcowtui_process("map", "--output=json", image)
    assert (ours.code, ours.stdout, ours.stderr) == (0, theirs.stdout, b"")
