"""``commit`` crashed at every point: the disk through the overlay is the same at every instant."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import pytest

from qcow.actions.commit import Commit
from qcow.edit.editor import Editor
from qcow.edit.lower import Lower
from qcow.image.image import Image
from qcow.storage.gate import Gate, Policy
from qcow.storage.writable import open_local_writable
from qcowtui.samples.builder import ImageBuilder
from tests.support.images import noise, pattern
from tests.support.qemu import guest_bytes, qemu_img
from tests.support.storages import RecordingStorage

from .acting import Wrap, unwrapped
from .enumerate import Op, replay, sectors_of_two, states_of_two
from .oracle import TinyImage, Verdict
from .test_planted import NoFlush
from .variants import BELOW, build

NAMES = {True: "base.raw", False: "base.qcow2"}


def overlay(name: str, **options: int) -> bytes:
    """Data, zeros and compressed clusters over a base of ``name``; clusters of 512 bytes."""
    builder = ImageBuilder(virtual_size=100 * 512, cluster_bits=9, **options)  # type: ignore[arg-type]
    for number in (0, 1, 2, 5, 30, 70, 99):
        builder.data(number, noise(number, 512))
    if builder.geometry.version >= 3:
        builder.zero(3, 2)
        builder.zero_allocated(40, 3)
    for number in range(12, 18):
        builder.compressed(number, pattern(number, 512))
    builder.backing(name, name.rpartition(".")[2])
    return builder.build().peek(0, builder.build().length)


@dataclass(frozen=True)
class Pair:
    """An overlay, its base, and how it is committed."""

    name: str
    raw: bool
    base: Callable[[], bytes]
    options: tuple[tuple[str, int], ...] = ()
    drop: bool = False
    batch: int | None = None

    def files(self) -> tuple[bytes, bytes]:
        return overlay(NAMES[self.raw], **dict(self.options)), self.base()


PAIRS = (
    Pair("raw", True, lambda: BELOW[b"other.raw"][: 100 * 512]),
    Pair("raw, smaller", True, lambda: BELOW[b"base.raw"]),
    Pair("raw, longer", True, lambda: BELOW[b"other.raw"]),
    Pair("raw, v2", True, lambda: BELOW[b"base.raw"], (("version", 2),)),
    Pair("qcow2", False, lambda: build(clusters=100)),
    Pair("qcow2, smaller", False, lambda: build(clusters=80)),
    Pair("qcow2, v2 on v3", False, lambda: build(clusters=100, snapshots=0), (("version", 2),)),
    Pair("qcow2, 4k", False, lambda: build(12, clusters=80)),
    Pair("qcow2, bitmaps", False, lambda: build(10, clusters=60, bitmap=True)),
    Pair("qcow2, dropped", False, lambda: build(clusters=100), drop=True),
    Pair("qcow2, in batches", False, lambda: build(clusters=100), batch=2048),
)
by_name = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


@dataclass
class Committed:
    """``files`` before and ``final`` after; ``ops``: of the overlay (0) and the base (1)."""

    pair: Pair
    files: tuple[bytes, bytes]
    ops: list[tuple[int, Op]]
    final: tuple[bytes, bytes]

    def states(self, *, few: bool = False) -> Iterator[tuple[str, bytes, bytes]]:
        full, number = (3, 3) if few else (6, 10)
        ops = sectors_of_two(self.ops, most=20 if few else 80)
        yield from states_of_two(self.files, ops, full=full, random=number, cuts=0)


def commit(pair: Pair, files: tuple[bytes, bytes], wrap_base: Wrap = unwrapped) -> Committed:
    """Commit on real files, every operation on either written down."""
    ops: list[tuple[int, Op]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        paths = Path(folder) / "overlay.qcow2", Path(folder) / NAMES[pair.raw]
        for path, content in zip(paths, files, strict=True):
            path.write_bytes(content)
        top, below = (
            RecordingStorage(held.enter_context(open_local_writable(path)), shared=ops, file=number)
            for number, path in enumerate(paths)
        )
        base = wrap_base(below)
        gate = Gate(Policy.OWN_FOLDER)
        editor = held.enter_context(Editor(Image(top), top, gate=gate))
        lower = None if pair.raw else held.enter_context(Editor(Image(base), base, gate=gate))
        editor.open_below = lambda _: Lower(base, lower)
        if pair.batch is not None:
            held.enter_context(patch("qcow.actions.batch.BATCH", pair.batch))
        Commit(drop=pair.drop).run(editor)
        final = paths[0].read_bytes(), paths[1].read_bytes()
    assert all(
        replay(files[number], (op for file, op in ops if file == number)) == final[number]
        for number in (0, 1)
    )
    return Committed(pair, files, ops, final)


def through(pair: Pair, top: bytes, base: bytes) -> tuple[TinyImage, tuple[object, ...]]:
    """(the overlay, what the base shows to others); raises AssertionError for unsound ones."""
    below, others = base, tuple[object, ...]()
    if not pair.raw:
        image = TinyImage(base)
        assert image.check() == Verdict((), 0), image.check()
        below, others = image.disk(), image.view().snapshots
    found = TinyImage(top, {NAMES[pair.raw].encode(): below})
    assert found.check() == Verdict((), 0), found.check()
    return found, others


def judge(pair: Pair, files: tuple[bytes, bytes], top: bytes, base: bytes) -> str | None:
    """Why a pair of files is none that a crash may leave, or None."""
    first, snapshots = through(pair, *files)
    try:
        now, others = through(pair, top, base)
        if others != snapshots:
            return "the base's snapshots are others"
        return None if now.disk() == first.disk() else "another disk"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@by_name
def test_the_disk_is_the_same_at_every_instant(pair: Pair) -> None:
    done = commit(pair, pair.files())
    number = 0
    for label, top, base in done.states():
        number += 1
        assert (why := judge(pair, done.files, top, base)) is None, (label, why)
    assert number >= 60
    merged = done.final[1] if pair.raw else TinyImage(done.final[1]).disk()
    disk = through(pair, *done.files)[0].disk()
    assert merged[: len(disk)] == disk
    if not pair.drop:
        assert not any(entry for entry in TinyImage(done.final[0]).l1)


@by_name
def test_what_was_interrupted_is_run_again(pair: Pair) -> None:
    done = commit(pair, pair.files())
    number = 0
    for label, top, base in islice(done.states(), 3, None, 61):
        again = commit(pair, (top, base))
        assert judge(pair, done.files, *again.final) is None, label
        merged = again.final[1] if pair.raw else TinyImage(again.final[1]).disk()
        disk = through(pair, *done.files)[0].disk()
        assert merged[: len(disk)] == disk
        for second, top_again, base_again in again.states(few=True):
            why = judge(pair, done.files, top_again, base_again)
            assert why is None, (label, second, why)
            number += 1
    assert number > 30


@pytest.mark.oracle
@by_name
def test_qemu_reads_the_same(pair: Pair, tmp_path: Path) -> None:
    done = commit(pair, pair.files())
    disk = through(pair, *done.files)[0].disk()
    sample = list(done.states(few=True))[::29]
    for label, top, base in [*sample, ("end", *done.final)]:
        (tmp_path / "overlay.qcow2").write_bytes(top)
        (tmp_path / NAMES[pair.raw]).write_bytes(base)
        assert guest_bytes(tmp_path / "overlay.qcow2") == disk, label
        assert qemu_img("check", "-q", tmp_path / "overlay.qcow2", check=False).returncode == 0
        if not pair.raw:
            assert qemu_img("check", "-q", tmp_path / NAMES[False], check=False).returncode == 0


@by_name
def test_a_base_that_is_not_synced_is_caught(pair: Pair) -> None:
    """The harness can fail: without the base's flushes the overlay is emptied too early."""
    if pair.drop:
        done = commit(pair, pair.files())  # nothing is emptied: the overlay hides everything
        assert not [op for file, op in done.ops if file == 0 and op[0] != "b"]
        return
    done = commit(pair, pair.files(), NoFlush)
    assert any(judge(pair, done.files, top, base) for _, top, base in done.states())
