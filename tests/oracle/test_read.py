"""``read`` beside qemu-img convert: the guest's bytes, of the disk and of every snapshot."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.catalogue.base import Variant
from tests.oracle.conftest import ByName
from tests.oracle.variants import each
from tests.support.cli import CliResult, qcowtui, qcowtui_process
from tests.support.qemu import data_ranges, guest_bytes, guest_raw, qemu_json

pytestmark = pytest.mark.oracle

MIB = 1 << 20
CLUSTER = 65536


def _run(image: Path, offset: int, length: int, *more: str) -> CliResult:
    return qcowtui("read", image, "--offset", str(offset), "--length", str(length), *more)


def _read(image: Path, offset: int, length: int, *more: str) -> bytes:
    """Guest bytes with every grant given: what may be followed without is tested elsewhere."""
    ours = _run(image, offset, length, "--follow", *more)
    assert (ours.code, ours.stderr) == (0, b"")
    return ours.stdout


def _snapshot_ids(image: Path) -> list[str]:
    info: dict[str, Any] = dict(qemu_json("info", "--output=json", image))
    return [dict(snapshot)["id"] for snapshot in info.get("snapshots", [])]


@each(without="encrypted huge damaged")
def test_the_active_disk(image: Path) -> None:
    theirs = guest_bytes(image)
    assert _read(image, 0, len(theirs)) == theirs


@each(having="snapshots", without="encrypted")
def test_every_snapshot(variant: Variant, image: Path) -> None:
    for identity in _snapshot_ids(image):
        theirs = guest_bytes(image, identity)
        # QEMU 7.2 converts a snapshot with the current size of the disk, this program reads it
        # with its own: one variant has snapshots of other sizes (see the next test).
        length = min(len(theirs), MIB) if variant.name == "snapshots-resized" else len(theirs)
        assert _read(image, 0, length, "--snapshot", identity) == theirs[:length]


def test_a_snapshot_keeps_the_size_of_its_disk(by_name: ByName) -> None:
    image = by_name("snapshots-resized")
    assert _read(image, 0, MIB, "--snapshot", "small") == b"\x01" * MIB
    ended = _run(image, 0, MIB + 512, "--snapshot", "small")
    assert (ended.code, ended.stdout) == (1, b"")
    large = _read(image, 0, 9 * MIB, "--snapshot", "large")
    assert large[: 3 * MIB] == guest_bytes(image, "2")[: 3 * MIB]
    assert large[3 * MIB :] == bytes(5 * MIB) + b"\x02" * MIB


def test_a_snapshot_by_name_is_the_first_of_that_name(by_name: ByName) -> None:
    image = by_name("snapshots-duplicate-names")
    length = 4 * MIB
    assert _read(image, 0, length, "--snapshot", "same") == guest_bytes(image, "1")
    # "2" is the name of the fourth snapshot and the ID of the second: IDs are looked up first.
    assert _read(image, 0, length, "--snapshot", "2") == guest_bytes(image, "2")


@each(having="huge")
def test_where_a_huge_disk_has_data(image: Path, tmp_path: Path) -> None:
    raw = guest_raw(image, tmp_path / "guest.raw")
    ranges = list(data_ranges(raw))
    assert ranges
    with raw.open("rb") as file:
        for start, length in ranges:
            begin = max(0, start - 4096)
            end = min(raw.stat().st_size, start + length + 4096)
            file.seek(begin)
            assert _read(image, begin, end - begin) == file.read(end - begin)
    assert _read(image, 500 << 30, MIB) == bytes(MIB)


@pytest.mark.parametrize(
    "name",
    [
        "cluster-512",
        "backing-three-deep",
        "backing-smaller",
        "backing-raw-sparse-smaller",
        "compressed-zlib",
        "compressed-zstd-2m",
        "extended-l2-backing",
        "extended-l2-snapshots",
        "data-file-raw",
        "size-unaligned",
    ],
)
def test_pieces_at_odd_places(name: str, by_name: ByName) -> None:
    image = by_name(name)
    theirs = guest_bytes(image)
    chosen = random.Random(name)
    for _ in range(40):
        start = chosen.randrange(len(theirs))
        length = min(len(theirs) - start, chosen.choice((1, 511, 513, 5000, 70_001, 300_000)))
        assert _read(image, start, length) == theirs[start : start + length]


@pytest.mark.parametrize(
    "name",
    [
        "damaged-leaks",
        "damaged-refcount-too-low",
        "damaged-refcount-too-high",
        "damaged-copied-flag",
        "damaged-lost-l2",
        "damaged-overlap",
        "damaged-reserved-bits",
        "damaged-corrupt-bit",
    ],
)
def test_damage_that_leaves_the_mapping_readable(name: str, by_name: ByName) -> None:
    image = by_name(name)
    theirs = guest_bytes(image)
    assert _read(image, 0, len(theirs)) == theirs


@pytest.mark.parametrize(
    ("name", "lost"),
    [("damaged-unaligned-data", range(1)), ("damaged-truncated", range(16, 23))],
)
def test_what_is_lost_is_an_error_and_the_rest_is_readable(
    name: str, lost: range, by_name: ByName
) -> None:
    """Both were the variant "written" before they were damaged."""
    sound = guest_bytes(by_name("written"))
    image = by_name(name)
    start, end = lost.start * CLUSTER, lost.stop * CLUSTER
    ended = _run(image, start, end - start)
    assert (ended.code, ended.stdout) == (1, b"")
    assert ended.stderr
    assert _read(image, 0, start) == sound[:start]
    assert _read(image, end, len(sound) - end) == sound[end:]


@each(having="encrypted")
def test_ciphertext_is_never_data(image: Path) -> None:
    ours = _run(image, 0, 65536)
    assert (ours.code, ours.stdout) == (1, b"")
    assert b"encrypted" in ours.stderr.lower()


@each(having="luks snapshots")
def test_ciphertext_of_a_snapshot_is_never_data(image: Path) -> None:
    ours = _run(image, 0, 65536, "--snapshot", "sealed")
    assert (ours.code, ours.stdout) == (1, b"")


@each(having="follow")
def test_a_file_outside_the_folder_needs_a_grant(image: Path) -> None:
    ours = _run(image, 0, MIB)
    assert (ours.code, ours.stdout) == (1, b"")
    assert b"--follow" in ours.stderr


@pytest.mark.parametrize("name", ["backing-three-deep", "compressed-zstd", "snapshots-three"])
def test_as_a_whole_process(name: str, by_name: ByName) -> None:
    image = by_name(name)
    theirs = guest_bytes(image)
    ours = qcowtui_process("read", image, "--offset", "0", "--length", str(len(theirs)))
    assert (ours.code, ours.stderr) == (0, b"")
    assert ours.stdout == theirs
