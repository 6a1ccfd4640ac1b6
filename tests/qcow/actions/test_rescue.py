"""Rescue: everything that can be read, zeros and a map of the rest; it goes on where it ended."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qcow.actions.rescue import Rescued, rescue
from qcow.actions.rescue_map import LOST, READ, UNTRIED, RescueMap
from qcow.actions.rescue_target import map_path
from qcow.errors import Cancelled, EditRefused, FormatError, StorageError
from qcow.image.image import Image
from qcow.jobs import CancelToken
from qcow.opening import open as open_image
from qcow.storage.base import WritableBuffer
from qcow.storage.local import LocalFile, open_local
from tests.support.images import guest_bytes, patch, small_builder
from tests.support.qemu import guest_bytes as qemu_bytes
from tests.support.qemu import qemu_img, qemu_io

SIZE = 4096  # of a cluster here


def _rescue(source: Path, out: Path, **options: Any) -> Rescued:
    with open_image(source) as image:
        return rescue(image, str(out), **options)


def _map(out: Path) -> RescueMap:
    return RescueMap.decode(Path(map_path(str(out))).read_bytes())


def _l2_entry(path: Path, guest_cluster: int) -> int:
    """Where in the file the L2 entry of a guest cluster is."""
    with open_image(path) as image:
        assert isinstance(image, Image)
        assert image.geometry is not None
        per_table = image.geometry.l2_entries
        table = int(image.active.l1()[guest_cluster // per_table]) & 0x00FF_FFFF_FFFF_FE00
        return table + guest_cluster % per_table * image.geometry.l2_entry_size


def _assert_same_outside(out: Path, expected: bytes, lost: Sequence[tuple[int, int]]) -> None:
    got = out.read_bytes()
    assert len(got) == len(expected)
    at = 0
    for start, length in [*lost, (len(expected), 0)]:
        assert got[at:start] == expected[at:start]
        assert not any(got[start : start + length])
        at = start + length


@pytest.mark.oracle
@pytest.mark.parametrize("options", [{}, {"extended_l2": True}, {"version": 2}], ids=str)
def test_a_sound_image_comes_out_as_qemu_reads_it(tmp_path: Path, options: dict[str, Any]) -> None:
    bits = 16 if options.get("extended_l2") else 12
    source = small_builder(cluster_bits=bits, **options).write(tmp_path / "disk.qcow2")
    done = _rescue(source, tmp_path / "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == qemu_bytes(source)
    assert (done.lost, done.read) == (0, done.size)
    assert list(_map(tmp_path / "out.raw").runs()) == [(0, done.size, READ)]
    with open_image(source) as image:
        assert isinstance(image, Image)
        one = rescue(image, str(tmp_path / "s.raw"), state="snapshot:first")
    assert one.lost == 0
    assert (tmp_path / "s.raw").read_bytes() == qemu_bytes(source, "1")


@pytest.mark.oracle
def test_through_the_chain_and_sparse(tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, "64M")
    qemu_io(base, "write -q -P 7 1M 1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base.name, "-F", "qcow2", top)
    qemu_io(top, "write -q -P 9 40M 64k")
    done = _rescue(top, tmp_path / "out.raw")
    assert done.lost == 0
    assert (tmp_path / "out.raw").read_bytes() == qemu_bytes(top)
    assert os.stat(tmp_path / "out.raw").st_blocks * 512 < 2 << 20
    base.unlink()
    done = _rescue(top, tmp_path / "without.raw")
    (reason,) = done.reasons
    assert "base.qcow2" in reason
    assert done.reasons[reason] == done.lost == (64 << 20) - (64 << 10)
    assert _map(tmp_path / "without.raw").ranges(READ) == [(40 << 20, 64 << 10)]


def test_damaged_mappings_and_a_truncated_file(tmp_path: Path) -> None:
    builder = small_builder(cluster_bits=12)
    source = builder.write(tmp_path / "disk.qcow2")
    expected = guest_bytes(builder.model)
    patch(source, _l2_entry(source, 3), (0x8000_0000_0000_0200).to_bytes(8, "big"))  # misaligned
    patch(source, _l2_entry(source, 5), (0x8000_0000_4000_0000).to_bytes(8, "big"))  # behind it
    where = int.from_bytes(source.read_bytes()[_l2_entry(source, 14) :][:8], "big")
    patch(source, where & 0xFFFF_FFFF, b"\xff" * 60)  # a compressed cluster
    done = _rescue(source, tmp_path / "out.raw")
    lost = [(3 * SIZE, SIZE), (5 * SIZE, SIZE), (14 * SIZE, SIZE)]
    assert list(done.lost_ranges) == lost
    assert _map(tmp_path / "out.raw").ranges(LOST) == lost
    assert sorted(done.reasons.values()) == [SIZE] * 3
    _assert_same_outside(tmp_path / "out.raw", expected, lost)


def test_a_lost_range_is_read_when_it_can_be_again(tmp_path: Path) -> None:
    builder = small_builder(cluster_bits=12)
    source = builder.write(tmp_path / "disk.qcow2")
    whole = source.read_bytes()
    patch(source, _l2_entry(source, 3), (0x8000_0000_0000_0200).to_bytes(8, "big"))
    assert _rescue(source, tmp_path / "out.raw").lost == SIZE
    source.write_bytes(whole)
    again = _rescue(source, tmp_path / "out.raw")
    assert (again.lost, again.resumed) == (0, again.size - SIZE)
    assert (tmp_path / "out.raw").read_bytes() == guest_bytes(builder.model)


def test_cancelled_and_gone_on(tmp_path: Path) -> None:
    builder = small_builder(cluster_bits=12)
    source = builder.write(tmp_path / "disk.qcow2")
    token = CancelToken()
    with pytest.raises(Cancelled):
        _rescue(source, tmp_path / "out.raw", cancel=token, progress=lambda _: token.cancel())
    half = _map(tmp_path / "out.raw")
    assert half.total(READ)
    assert half.total(UNTRIED)
    done = _rescue(source, tmp_path / "out.raw")
    assert (done.lost, done.resumed) == (0, half.total(READ))
    assert (tmp_path / "out.raw").read_bytes() == guest_bytes(builder.model)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    source = small_builder(cluster_bits=12).write(tmp_path / "disk.qcow2")
    other = small_builder(cluster_bits=12).write(tmp_path / "other.qcow2")
    before = source.read_bytes()
    (tmp_path / "mine").write_bytes(b"precious")
    for out, said in (("mine", "has no map"), ("disk.qcow2", "is a file that is read from")):
        with pytest.raises(EditRefused, match=said):
            _rescue(source, tmp_path / out)
    assert (tmp_path / "mine").read_bytes() == b"precious"
    with pytest.raises(EditRefused, match="is a file that is read from"):
        _rescue(source, tmp_path / "disk.qcow2", force=True)
    assert source.read_bytes() == before
    _rescue(source, tmp_path / "out.raw")
    with pytest.raises(EditRefused, match="rescue of another image"):
        _rescue(other, tmp_path / "out.raw")
    assert _rescue(other, tmp_path / "mine", force=True).lost == 0


class _BadSectors(LocalFile):
    """A file some of whose sectors cannot be read."""

    bad: frozenset[int] = frozenset()

    def _check(self, offset: int, length: int) -> None:
        if any(offset < at + 512 and at < offset + length for at in self.bad):
            raise StorageError("Input/output error")

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: WritableBuffer) -> int:
        self._check(offset, len(buffer))
        return super().read_into(offset, buffer)

    def read_pieces(self, offsets: Sequence[int], piece: int, buffer: memoryview) -> None:
        for offset in offsets:
            self._check(offset, piece)
        super().read_pieces(offsets, piece, buffer)


def test_bad_sectors_of_data_and_of_a_table(tmp_path: Path) -> None:
    builder = small_builder(cluster_bits=12)
    source = builder.write(tmp_path / "disk.qcow2")
    data = int.from_bytes(source.read_bytes()[_l2_entry(source, 2) :][:8], "big") & 0xFFFF_FFFF
    table = _l2_entry(source, 64)  # the second sector of the first L2 table: clusters 64 to 127
    assert table % 512 == 0
    with open_local(source) as plain:
        storage = _BadSectors(os.dup(plain.fileno()), str(source))
    storage.bad = frozenset({data + 1024, table})
    with Image(storage) as image:
        done = rescue(image, str(tmp_path / "out.raw"))
    lost = [(2 * SIZE + 1024, 512), (64 * SIZE, 64 * SIZE)]
    assert list(done.lost_ranges) == lost
    _assert_same_outside(tmp_path / "out.raw", guest_bytes(builder.model), lost)


def test_the_map_keeps_runs_apart_and_joins_them() -> None:
    found = RescueMap(1000)
    found.mark(100, 100, READ)
    found.mark(300, 100, LOST)
    found.mark(200, 100, READ)
    found.mark(350, 650, LOST)
    found.mark(0, 50, READ)
    assert list(found.runs()) == [
        (0, 50, READ),
        (50, 50, UNTRIED),
        (100, 200, READ),
        (300, 700, LOST),
    ]
    found.mark(40, 300, READ)
    assert list(found.runs()) == [(0, 340, READ), (340, 660, LOST)]
    text = found.encode("a comment")
    assert b"0x00000000  0x00000154  +\n" in text
    assert list(RescueMap.decode(text).runs()) == list(found.runs())
    gap = b"0x0 + 1\n0x0 0x10 +\n0x20 0x10 -\n"
    for wrong in (b"", b"hello\n", gap, b"0x0 + 1\n0x0 0x10 x\n"):
        with pytest.raises(FormatError):
            RescueMap.decode(wrong)
