"""The triage names what leaked clusters hold, on images whose damage is known."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

import qcow
from qcow.errors import Cancelled
from qcow.image.image import Image
from qcow.inspect.triage import LeakClass, Triage, triage
from qcow.jobs import CancelToken
from tests.support.poking import (
    OFFSETS,
    count_place,
    l1_entry,
    l2_entry,
    leak,
    leaks_and_errors,
    make,
    peek,
    poke,
    set_word,
    word,
)
from tests.support.qemu import qemu_img, qemu_io

pytestmark = pytest.mark.oracle
K = 1 << 10
SPAN = 2 << 20  # guest bytes behind an L2 table at 4 KiB clusters
SMALL = "cluster_size=4k"


def look(path: Path) -> Triage:
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        found = triage(image, disk=None)
    assert len(found.leaked) == sum(group.clusters for group in found.groups)
    assert {*found.reclaimable.tolist()} | {*found.locked.tolist()} == {*found.leaked.tolist()}
    json.dumps(found.to_json())
    return found


def classes(path: Path) -> dict[str, int]:
    return {group.kind.name: group.clusters for group in look(path).groups}


def test_nothing_leaked(tmp_path: Path) -> None:
    found = look(make(tmp_path / "a", "8M", "write 0 1M", options=SMALL))
    assert len(found.leaked) == 0
    assert found.groups == ()
    assert found.orphans == ()


def test_one_value_throughout_is_garbage_and_zeros_are_empty(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "64M", "write -P 1 0 2M")
    leak(path, b"\xee" * 65536, b"\xee" * 65536, b"")
    found = look(path)
    assert {g.kind: g.clusters for g in found.groups} == {LeakClass.GARBAGE: 2, LeakClass.EMPTY: 1}
    assert all(group.reclaimable for group in found.groups)
    assert len(found.reclaimable) == leaks_and_errors(path)[0] == 3


def test_varied_content_is_never_reclaimable(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "64M", "write -P 1 0 2M")
    leak(path, bytes(range(256)) * 256)
    found = look(path)
    assert [group.kind for group in found.groups] == [LeakClass.UNKNOWN]
    assert len(found.reclaimable) == 0


def test_one_value_throughout_is_not_garbage_where_a_table_was_wiped(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "8M", "write -P 1 0 1M", options=SMALL)
    table = word(path, l1_entry(path, 0)) & OFFSETS
    poke(path, table, bytes(4 * K))
    found = look(path)
    assert {g.kind: g.clusters for g in found.groups} == {LeakClass.UNKNOWN: 256}
    assert "An L2 table in use is empty." in found.groups[0].evidence


def test_a_wiped_sector_of_a_table_is_seen(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "8M", "write -P 1 0 1M", "write -P 2 1M 1M", options=SMALL)
    # Out of order in the file, so that the clusters fit no single hole.
    poke(path, l2_entry(path, 0, 64), bytes(512))
    found = classes(path)
    assert found == {"HOLE_DATA": 64}


@pytest.mark.parametrize("options", [SMALL, "cluster_size=16k,extended_l2=on", "compat=0.10"])
def test_a_lost_l2_table_and_its_data(tmp_path: Path, options: str) -> None:
    span = {SMALL: 2 << 20, "compat=0.10": 512 << 20}.get(options, 16 << 20)
    path = make(
        tmp_path / "a", 2 * span, "write -P 1 0 1M", f"write -P 2 {span} 256k", options=options
    )
    table = word(path, l1_entry(path, 1)) & OFFSETS
    set_word(path, l1_entry(path, 1), 0)
    found = look(path)
    assert {group.kind for group in found.groups} == {LeakClass.ORPHAN_L2, LeakClass.GUEST_DATA}
    assert len(found.leaked) == leaks_and_errors(path)[0]
    (orphan,) = found.orphans
    assert orphan.offset == table
    assert orphan.claimed == len(found.leaked) - 1
    assert orphan.choices == 1
    assert orphan.best is not None
    assert orphan.best.certain
    assert (orphan.best.state, orphan.best.index, orphan.best.start) == ("active", 1, span)
    assert len(found.reclaimable) == 0


def test_a_lost_table_of_compressed_clusters(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "4M", "write -P 9 0 4k", options=SMALL)
    for number in range(40):
        qemu_io(path, f"write -c -P {number + 1} {SPAN + number * 4096} 4k")
    set_word(path, l1_entry(path, 1), 0)
    found = look(path)
    (orphan,) = found.orphans
    assert (orphan.entries, orphan.first, orphan.last, orphan.copied) == (40, 0, 39, False)
    assert orphan.best is not None
    assert orphan.best.certain
    assert {g.kind for g in found.groups} == {LeakClass.ORPHAN_L2, LeakClass.GUEST_DATA}


def test_compressed_data_without_any_table(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "4M", "write -P 9 0 4k", options=SMALL)
    qemu_io(path, *(f"write -c -P {n + 1} {SPAN + n * 4096} 4k" for n in range(40)))
    poke(path, word(path, l1_entry(path, 1)) & OFFSETS, bytes(4 * K))
    assert classes(path) == {"COMPRESSED": len(look(path).leaked)}


def test_a_cluster_that_fits_a_hole_of_the_mapping(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "64M", "write -P 1 0 2M")
    host = word(path, l2_entry(path, 0, 7)) & OFFSETS
    set_word(path, l2_entry(path, 0, 7), 0)
    found = look(path)
    assert {g.kind: g.clusters for g in found.groups} == {LeakClass.HOLE_DATA: 1}
    assert found.of(LeakClass.HOLE_DATA).tolist() == [host // 65536]


def test_old_copies_of_metadata(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "8M", "write -P 1 0 6M", options=SMALL)
    qemu_img("snapshot", "-c", "one", path)
    qemu_io(path, "write -P 2 0 4k")
    l1 = peek(path, word(path, 40), 4 * K)
    l2 = peek(path, word(path, l1_entry(path, 0)) & OFFSETS, 4 * K)
    table = peek(path, word(path, 48), 4 * K)
    block = peek(path, word(path, word(path, 48)), 4 * K)
    snapshots = peek(path, word(path, 64), 4 * K)
    first = leak(path, l1, l2, table, block, snapshots) // (4 * K)
    found = look(path)
    assert dict(zip(found.leaked.tolist(), found.classes.tolist(), strict=True)) == {
        first: LeakClass.OLD_L1,
        first + 1: LeakClass.OLD_L2,
        first + 2: LeakClass.OLD_REFCOUNT_TABLE,
        first + 3: LeakClass.OLD_REFCOUNT_BLOCK,
        first + 4: LeakClass.OLD_SNAPSHOT_TABLE,
    }
    assert len(found.reclaimable) == 5


def test_a_snapshot_whose_entry_was_lost(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "8M", "write -P 1 0 1M", options=SMALL)
    qemu_img("snapshot", "-c", "one", path)
    qemu_io(path, "write -P 2 0 1M")
    l1 = word(path, word(path, 64))
    poke(path, 60, bytes(12))  # nb_snapshots and snapshots_offset
    found = look(path)
    assert found.lost_l1 == (l1,)
    assert found.orphans == ()
    kinds = {group.kind: group.clusters for group in found.groups}
    assert kinds.pop(LeakClass.SNAPSHOT_REMNANT) == 1 + 1 + 256
    assert kinds == {LeakClass.OLD_SNAPSHOT_TABLE: 1}
    assert len(found.reclaimable) == 0


def test_a_table_of_a_snapshot_is_not_put_into_the_active_state(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "8M", "write -P 1 0 1M", options=SMALL)
    qemu_img("snapshot", "-c", "one", path)
    qemu_io(path, "write -P 2 0 256k")
    set_word(path, l1_entry(path, 0, snapshot=0), 0)
    (orphan,) = look(path).orphans
    assert not orphan.copied
    assert orphan.best is not None
    assert (orphan.best.state, orphan.best.index, orphan.best.certain) == ("snapshot:1", 0, True)
    assert any("snapshot" not in text and "active" in text for text in orphan.best.evidence)


def test_tables_inside_the_guest_are_data(tmp_path: Path) -> None:
    """The guest holds a qcow2 image: its tables parse, too."""
    inner = make(tmp_path / "inner", "8M", "write -P 1 0 1M", options=SMALL)
    path = make(tmp_path / "a", "8M", "write -P 9 0 4k", options=SMALL)
    content = inner.read_bytes()
    (tmp_path / "content").write_bytes(content)
    qemu_io(path, f"write -s {tmp_path / 'content'} {SPAN} {len(content)}")
    set_word(path, l1_entry(path, 1), 0)
    found = look(path)
    (orphan,) = found.orphans
    assert orphan.claimed == len(content) // (4 * K)
    assert found.lost_l1 == ()


def test_seams_tell_the_place(tmp_path: Path) -> None:
    """Three free places; the data goes on in the file from one table to the next."""
    path = make(tmp_path / "a", 6 * SPAN, f"write -P 1 0 {3 * SPAN}", options=SMALL)
    set_word(path, l1_entry(path, 1), 0)
    (orphan,) = look(path).orphans
    assert orphan.choices == 4
    assert orphan.best is not None
    assert orphan.best.certain
    assert orphan.best.index == 1


def test_all_tables_lost_are_put_in_order(tmp_path: Path) -> None:
    path = make(tmp_path / "a", 4 * SPAN, f"write -P 1 0 {4 * SPAN}", options=SMALL)
    poke(path, l1_entry(path, 0), bytes(32))
    found = look(path)
    placed = {orphan.offset: orphan.best for orphan in found.orphans}
    assert [fit.index for _, fit in sorted(placed.items()) if fit is not None] == [0, 1, 2, 3]
    assert all(fit is not None and fit.certain for fit in placed.values())


def test_structures_that_know_their_place(tmp_path: Path) -> None:
    """A copy of an ext superblock says in which block group it lies."""
    block = bytearray(4 * K)
    struct.pack_into("<I", block, 0x14, 0)  # first data block, of 4 KiB blocks
    struct.pack_into("<I", block, 0x18, 2)
    struct.pack_into("<I", block, 0x20, 512)  # blocks in a group: one L2 table
    block[0x38:0x3A] = b"\x53\xef"
    struct.pack_into("<H", block, 0x5A, 3)
    (tmp_path / "block").write_bytes(block)
    path = make(
        tmp_path / "a",
        8 * SPAN,
        "write -P 1 0 4k",
        f"write -s {tmp_path / 'block'} {3 * SPAN} 4k",
        f"write -P 2 {3 * SPAN + 8192} 4k",
        options=SMALL,
    )
    set_word(path, l1_entry(path, 3), 0)
    (orphan,) = look(path).orphans
    assert orphan.choices == 7
    assert orphan.best is not None
    assert orphan.best.certain
    assert orphan.best.index == 3
    assert any("block group 3" in text for text in orphan.best.evidence)


def test_a_damaged_entry_that_is_nearly_the_tables_offset(tmp_path: Path) -> None:
    path = make(tmp_path / "a", 8 * SPAN, "write 0 4k", f"write {3 * SPAN} 4k", options=SMALL)
    place = l1_entry(path, 3)
    right = word(path, place)
    for wrong in (right ^ (1 << 40), right + 0x800):
        set_word(path, place, wrong)
        (orphan,) = look(path).orphans
        assert orphan.best is not None
        assert orphan.best.certain
        assert orphan.best.index == 3


def test_two_tables_for_one_place_are_not_certain(tmp_path: Path) -> None:
    path = make(tmp_path / "a", 2 * SPAN, "write 0 4k", f"write {SPAN} 64k", options=SMALL)
    table = peek(path, word(path, l1_entry(path, 1)) & OFFSETS, 4 * K)
    leak(path, table)
    set_word(path, l1_entry(path, 1), 0)
    found = look(path)
    assert len(found.orphans) == 2
    assert all(orphan.conflicts for orphan in found.orphans)
    assert not any(fit.certain for orphan in found.orphans for fit in orphan.fits)


def test_a_shared_table_that_one_state_lost(tmp_path: Path) -> None:
    path = make(tmp_path / "a", 2 * SPAN, "write 0 64k", f"write {SPAN} 64k", options=SMALL)
    qemu_img("snapshot", "-c", "one", path)
    set_word(path, l1_entry(path, 1), 0)
    found = look(path)
    assert len(found.leaked) == 0
    (orphan,) = found.orphans
    assert orphan.shared_with == "snapshot:1"
    assert [(fit.state, fit.index, fit.certain) for fit in orphan.fits] == [("active", 1, False)]


def test_cancelled(tmp_path: Path) -> None:
    path = make(tmp_path / "a", 2 * SPAN, "write 0 64k", options=SMALL)
    leak(path, bytes(range(256)) * 16)
    token = CancelToken()
    token.cancel()
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        with pytest.raises(Cancelled):
            triage(image, cancel=token)


def test_leaked_holes_are_empty_without_being_read(tmp_path: Path) -> None:
    path = make(tmp_path / "a", "64M", "write -P 1 0 64k")
    first = -(-path.stat().st_size // 65536)
    with path.open("r+b") as file:
        file.truncate((first + 300) * 65536)
    poke(path, count_place(path, first), b"\0\1" * 300)
    assert leaks_and_errors(path)[0] == 300
    assert classes(path) == {"EMPTY": 300}
