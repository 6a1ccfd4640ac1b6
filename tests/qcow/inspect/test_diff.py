"""Diff of two states, against bytes as QEMU reads them."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import qcow
from qcow.chain import Chain, open_chain
from qcow.errors import Cancelled, EncryptedError, GuestDataError, ReferenceRefused
from qcow.inspect.diff import diff
from qcow.inspect.states import resolve_state
from qcow.jobs import CancelToken, Progress
from qcow.storage.gate import Gate
from qcowtui.samples.builder import ImageBuilder
from tests.oracle.catalogue.base import create, noise, overlay, written
from tests.support.images import noise as noisy
from tests.support.images import pattern, small_builder
from tests.support.opens import opened_files
from tests.support.qemu import create_encrypted, guest_bytes, qemu_img, qemu_io, with_key
from tests.support.stories import three_snapshots

MIB = 1 << 20
CLUSTER = 65536


def _ranges(a: Chain, b: Chain, *, by_content: bool = False) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, length in diff(a, b, by_content=by_content):
        assert start.dtype == length.dtype == np.int64
        found += zip(start.tolist(), length.tolist(), strict=True)
    return found


def _between(
    path: Path, one: str, other: str, *, gate: Gate | None = None, by_content: bool = False
) -> list[tuple[int, int]]:
    with qcow.open(path) as image, open_chain(image, gate or Gate.closed()) as chain:
        a, b = (resolve_state(image, chain, text) for text in (one, other))
        forth = _ranges(a, b, by_content=by_content)
        assert _ranges(b, a, by_content=by_content) == forth
        assert _ranges(a, a, by_content=by_content) == []
        return forth


def _sectors(one: bytes, other: bytes) -> list[tuple[int, int]]:
    """The slow and certain way."""
    size = max(len(one), len(other))
    one, other = one.ljust(size, b"\0"), other.ljust(size, b"\0")
    found: list[tuple[int, int]] = []
    for at in range(0, size, 512):
        if one[at : at + 512] != other[at : at + 512]:
            if found and sum(found[-1]) == at:
                found[-1] = (found[-1][0], found[-1][1] + 512)
            else:
                found.append((at, 512))
    return found


def _covers(outer: list[tuple[int, int]], inner: list[tuple[int, int]]) -> bool:
    """A range may end inside a sector, where a raw file does."""
    whole = [(start, start + length + 511 & ~511) for start, length in outer]
    return all(any(s <= start and start + n <= e for s, e in whole) for start, n in inner)


def _is_tidy(ranges: list[tuple[int, int]]) -> bool:
    return all(start + length < following for (start, length), (following, _) in pairwise(ranges))


@pytest.mark.oracle
def test_story_s9_what_the_update_changed(tmp_path: Path) -> None:
    path = three_snapshots(tmp_path)
    for by_content in (False, True):
        assert _between(
            path, "snapshot:after-update", "active", by_content=by_content
        ) == [(100 * MIB, 5 * MIB)]  # fmt: skip
        assert _between(
            path, "snapshot:clean-install", "snapshot:before-update", by_content=by_content
        ) == [(0, 30 * MIB), (60 * MIB, 10 * MIB)]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize(
    "options",
    ["cluster_size=64k", "cluster_size=512", "cluster_size=2M", "compat=0.10",
     "extended_l2=on", "extended_l2=on,cluster_size=16k"],
)  # fmt: skip
def test_snapshots_of_one_image(options: str, tmp_path: Path) -> None:
    chosen = random.Random(options)
    path = create(tmp_path / "disk.qcow2", "12M", options)
    for name in ("a", "b", "c"):
        commands = []
        for _ in range(30):
            at = chosen.randrange(11 * MIB // 512) * 512
            length = chosen.randrange(1, 400) * 512
            verb = chosen.choice(("write -q -P 1", "write -q -P 2", "write -q -z", "discard -q"))
            commands.append(f"{verb} {at} {length}")
        qemu_io(path, *commands)
        qemu_img("snapshot", "-c", name, path)
    qemu_io(path, f"write -q -P 9 {7 * MIB} 5k")
    contents = {f"snapshot:{n}": guest_bytes(path, str(n)) for n in (1, 2, 3)}
    contents["active"] = guest_bytes(path)
    for one, other in [("snapshot:1", "snapshot:3"), ("snapshot:2", "active"),
                       ("snapshot:3", "active")]:  # fmt: skip
        exact = _sectors(contents[one], contents[other])
        assert exact
        assert _between(path, one, other, by_content=True) == exact
        mapped = _between(path, one, other)
        assert _covers(mapped, exact)
        assert _is_tidy(mapped)
    # Nothing but the last write lies between these two: one (sub)cluster, or what it touches.
    unit = {"cluster_size=512": 512, "cluster_size=2M": 2 * MIB, "extended_l2=on": 2048,
            "extended_l2=on,cluster_size=16k": 512}.get(options, CLUSTER)  # fmt: skip
    size = -(-5 * 1024 // unit) * unit
    if "extended" not in options:  # a first write to a cluster allocates all it was copied from
        start = 7 * MIB // unit * unit
        assert _between(path, "snapshot:3", "active") == [(start, size)]


def test_compressed_clusters_are_told_apart_by_where_they_lie(tmp_path: Path) -> None:
    builder = small_builder(snapshot=False)
    size = builder.geometry.cluster_size
    builder.snapshot("first")
    builder.compressed(13, pattern(113, size))
    builder.compressed(14, pattern(14, size))  # the same bytes again, elsewhere
    builder.compressed(40, pattern(40, size))
    path = builder.write(tmp_path / "disk.qcow2")
    assert _between(path, "snapshot:1", "active") == [(13 * size, 2 * size), (40 * size, size)]
    assert _between(path, "snapshot:1", "active", by_content=True) != []
    for start, length in _between(path, "snapshot:1", "active", by_content=True):
        assert start // size in (13, 40)
        assert length <= size


def test_equal_tables_are_not_read(tmp_path: Path) -> None:
    """Two snapshots that share all L2 tables are compared by their L1 tables alone."""
    builder = ImageBuilder(virtual_size=1 << 40)
    for table in range(0, 2048, 64):
        builder.data(table * 8192, pattern(table, 65536))
    builder.snapshot("first")
    builder.snapshot("second")
    builder.data(512 * 8192, pattern(1, 65536))
    path = builder.write(tmp_path / "disk.qcow2")
    with qcow.open(path) as image:
        storage, reads = image.storage, []
        original = storage.read_pieces
        storage.read_pieces = lambda offsets, *rest: (  # type: ignore[method-assign]
            reads.extend(offsets),
            original(offsets, *rest),
        )
        states = [resolve_state(image, None, text) for text in ("snapshot:1", "snapshot:2")]
        assert _ranges(*states) == []
        assert reads == []
        active = resolve_state(image, None, "active")
        assert _ranges(states[0], active) == [(512 << 29, 65536)]
        assert len(reads) == 2


@pytest.mark.oracle
def test_an_overlay_against_its_base(tmp_path: Path) -> None:
    noise(tmp_path / "root.raw", 13, 3 * MIB + 1000)
    overlay(tmp_path / "mid.qcow2", "root.raw", "raw", "4M")
    qemu_io(tmp_path / "mid.qcow2", "write -q -P 1 512k 1M", "write -q -z 3M 512k")
    path = overlay(tmp_path / "top.qcow2", "mid.qcow2", "qcow2", "6M")
    qemu_io(path, "write -q -P 2 0 1k", "write -q -P 1 600k 64k", "write -q -z 5M 1M",
            "write -q -P 7 4500k 10k")  # fmt: skip
    contents = {
        "layer:0": guest_bytes(path),
        "layer:1": guest_bytes(tmp_path / "mid.qcow2"),
        "layer:2": guest_bytes(tmp_path / "root.raw", fmt="raw"),
    }
    gate = Gate.own_folder()
    for one, other in [("layer:0", "layer:1"), ("layer:1", "layer:2"), ("layer:0", "layer:2")]:
        exact = _sectors(contents[one], contents[other])
        assert _between(path, one, other, gate=gate, by_content=True) == exact
        assert _covers(_between(path, one, other, gate=gate), exact)
    assert _between(path, "active", "layer:1", gate=gate) == [
        (0, CLUSTER),
        (9 * CLUSTER, 2 * CLUSTER),
        (70 * CLUSTER, CLUSTER),
    ]


def test_what_falls_through_to_a_closed_base_is_equal(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=16 * CLUSTER)
    builder.backing("base")
    builder.data(1, pattern(1, CLUSTER))
    builder.data(2, pattern(2, CLUSTER))
    builder.zero(5)
    builder.snapshot("first")
    builder.data(2, pattern(3, CLUSTER))
    builder.data(7, pattern(7, CLUSTER))
    builder.zero(8)
    builder.forget(5)
    path = builder.write(tmp_path / "top")
    expected = [(2 * CLUSTER, CLUSTER), (5 * CLUSTER, CLUSTER), (7 * CLUSTER, 2 * CLUSTER)]
    with opened_files() as opened:
        assert _between(path, "snapshot:1", "active") == expected
        assert opened.besides(path) == []
    with pytest.raises(ReferenceRefused, match="--follow"):
        _between(path, "snapshot:1", "active", by_content=True)
    base = ImageBuilder(virtual_size=4 * CLUSTER)
    base.data(0, noisy(1, CLUSTER))
    base.write(tmp_path / "base")
    # Now cluster 5 is known to read as zeros in both, and so is 8; 7 is data in one of them.
    expected = [(2 * CLUSTER, CLUSTER), (7 * CLUSTER, CLUSTER)]
    assert _between(path, "snapshot:1", "active", gate=Gate.own_folder()) == expected


@pytest.mark.oracle
def test_disks_of_different_sizes(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2", "2M")
    qemu_io(path, "write -q -P 1 1M 64k")
    qemu_img("snapshot", "-c", "small", path)
    qemu_img("resize", "-q", path, "9M")
    assert _between(path, "snapshot:small", "active") == []
    qemu_io(path, "write -q -P 2 3M 1k", "write -q -z 5M 128k", "write -q -P 0 7M 64k")
    assert _between(path, "snapshot:small", "active") == [(3 * MIB, CLUSTER), (7 * MIB, CLUSTER)]
    assert _between(path, "snapshot:small", "active", by_content=True) == [(3 * MIB, 1024)]
    qemu_img("resize", "-q", "--shrink", path, "512k")
    assert _between(path, "snapshot:small", "active") == [(MIB, CLUSTER)]


@pytest.mark.oracle
def test_encrypted_states_are_compared_by_their_mapping_only(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    create_encrypted(path, "4M")
    qemu_io(path, "write -q -P 1 0 256k", key="luks")
    qemu_img("snapshot", "-c", "first", *with_key(path))
    qemu_io(path, "write -q -P 2 64k 64k", key="luks")
    assert _between(path, "snapshot:first", "active") == [(CLUSTER, CLUSTER)]
    with pytest.raises(EncryptedError):
        _between(path, "snapshot:first", "active", by_content=True)


def test_damage_counts_as_different_and_cannot_be_read(tmp_path: Path) -> None:
    builder = small_builder()
    path = builder.write(tmp_path / "disk.qcow2")
    size = builder.geometry.cluster_size
    with qcow.open(path) as image:
        table = int(image.active.l1()[0]) & 0xFFFFFFFFFFFE00  # type: ignore[union-attr]
    with path.open("r+b") as file:
        file.seek(table + 5 * 8)
        file.write((0x8000000000000000 | 5 * size + 512).to_bytes(8, "big"))
    assert (5 * size, size) in _between(path, "snapshot:1", "active")
    with pytest.raises(GuestDataError, match="damaged"):
        _between(path, "snapshot:1", "active", by_content=True)


@pytest.mark.oracle
def test_two_images(tmp_path: Path) -> None:
    """Any two chains can be compared, not only states of one image."""
    raw = noise(tmp_path / "disk.raw", 4, 2 * MIB)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, tmp_path / "disk.qcow2")
    with (
        qcow.open(raw) as one,
        qcow.open(tmp_path / "disk.qcow2") as other,
        open_chain(one, Gate.closed()) as a,
        open_chain(other, Gate.closed()) as b,
    ):
        assert _ranges(a, b) == [(0, 2 * MIB)]
        assert _ranges(a, b, by_content=True) == []


def test_many_scattered_differences(tmp_path: Path) -> None:
    """Joined across windows, none lost, memory and loops bounded by tables."""
    builder = ImageBuilder(virtual_size=96 << 20, cluster_bits=9)
    for number in range(0, 190_000, 13):
        builder.data(number, b"x")
    builder.snapshot("first")
    chosen = random.Random(5)
    changed = sorted(chosen.sample(range(190_000), 5_000))
    for number in changed:
        builder.data(number, b"y")
    path = builder.write(tmp_path / "disk.qcow2")
    expected = _sectors_of(changed)
    assert _between(path, "snapshot:1", "active") == expected
    assert _between(path, "snapshot:1", "active", by_content=True) == expected


def _sectors_of(numbers: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and sum(found[-1]) == number * 512:
            found[-1] = (found[-1][0], found[-1][1] + 512)
        else:
            found.append((number * 512, 512))
    return found


@pytest.mark.oracle
def test_progress_and_cancel(tmp_path: Path) -> None:
    path = written(tmp_path / "disk.qcow2", "4M")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -q -P 1 1M 64k")
    with qcow.open(path) as image:
        a, b = (resolve_state(image, None, text) for text in ("active", "snapshot:1"))
        seen: list[Progress] = []
        list(diff(a, b, progress=seen.append))
        assert (seen[-1].done, seen[-1].total) == (4 * MIB, 4 * MIB)
        cancel = CancelToken()
        cancel.cancel()
        for by_content in (False, True):
            with pytest.raises(Cancelled):
                list(diff(a, b, by_content=by_content, cancel=cancel))
