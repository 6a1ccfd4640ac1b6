"""Fragmentation: QEMU's numbers exactly, ours against a slow count."""

from __future__ import annotations

import json
import random
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

import qcow
from qcow.errors import Cancelled, GuestDataError
from qcow.image.state import State
from qcow.inspect.cache_options import l2_cache_options
from qcow.inspect.fragmentation import Fragmentation, fragmentation
from qcow.jobs import CancelToken, Progress
from qcowtui.samples.builder import ImageBuilder
from tests.oracle.catalogue.base import Variant, create, written
from tests.oracle.variants import VARIANTS
from tests.support.images import patch, pattern, small_image
from tests.support.qemu import qemu_img, qemu_io, run

MIB = 1 << 20


def _of(path: Path, snapshot: str | None = None) -> Fragmentation:
    with qcow.open(path) as image:
        assert isinstance(image, qcow.Image)
        if snapshot is None:
            return fragmentation(image.active)
        return fragmentation(image.snapshot_state(image.find_snapshot(snapshot)))


def _assert_as_check(path: Path) -> Fragmentation:
    shown = qemu_img("check", "--output=json", path, check=False).stdout
    theirs = json.loads(shown[shown.index(b"{") :])
    ours = _of(path)
    assert ours.allocated_clusters == theirs.get("allocated-clusters", 0)
    assert ours.fragmented_clusters == theirs.get("fragmented-clusters", 0)
    assert ours.compressed_clusters == theirs.get("compressed-clusters", 0)
    assert ours.total_clusters == theirs.get("total-clusters", 0)
    return ours


def _slow(state: State) -> tuple[int, int, int, int]:
    """(clusters, runs, jumps back, tables) of the guest disk, entry by entry."""
    geometry = state.geometry
    clusters = runs = back = tables = 0
    end: int | None = None
    for index, l1_entry in enumerate(state.l1().tolist()):
        offset = l1_entry & 0xFFFFFFFFFFFE00
        if not offset:
            continue
        tables += 1
        table = state.image.storage.read(offset, geometry.cluster_size)
        for number in range(geometry.l2_entries):
            at = number * geometry.l2_entry_size
            entry = int.from_bytes(table[at : at + 8], "big")
            guest = index * geometry.l2_entries + number
            if entry >> 62 & 1:
                start, length = geometry.compressed_extent(entry)
                stop = start + length
            else:
                start = entry & 0xFFFFFFFFFFFE00
                stop = start + geometry.cluster_size
            if not start or guest >= geometry.clusters(state.virtual_size):
                continue
            clusters += 1
            if end is None or not -512 < start - end <= 0:
                runs += 1
                back += end is not None and start < end
            end = stop
    return clusters, runs, back, tables


#: Kinds of entries that count in their own way, and a sample of the rest.
NOTABLE = {"compressed", "extended-l2", "data-file", "damaged", "huge"}


@pytest.mark.oracle
@pytest.mark.parametrize(
    "variant",
    [v for i, v in enumerate(VARIANTS) if (v.tags & NOTABLE or i % 5 == 0)
     and not v.tags & {"encrypted", "follow"}],
    ids=lambda variant: variant.name,
)  # fmt: skip
def test_variants(variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = variant.build(tmp_path)
    monkeypatch.chdir(path.parent)
    ours = _assert_as_check(path)
    if variant.tags & {"damaged", "data-file", "huge"}:
        return
    with qcow.open(path) as image:
        assert isinstance(image, qcow.Image)
        clusters, runs, back, tables = _slow(image.active)
        cluster_size = image.header.cluster_size
    assert (ours.runs, ours.jumps_back) == (runs, back)
    assert ours.run_bytes == clusters * cluster_size
    assert ours.l2_cache.tables == tables * cluster_size


@pytest.mark.oracle
def test_a_saved_vm_state_counts_as_check_counts(tmp_path: Path) -> None:
    """What the L1 table maps beyond the disk is part of QEMU's number, not of the disk's runs."""
    builder = ImageBuilder(virtual_size=20 << 16)
    for number in (0, 1, 5, 3):
        builder.data(number, pattern(number, 65536))
    taken = builder.snapshot("vm", vm_state=[pattern(n, 65536) for n in range(7)])
    builder.revert(taken)
    ours = _assert_as_check(builder.write(tmp_path / "disk"))
    assert ours.allocated_clusters == 11
    assert ours.run_bytes == 4 << 16
    assert sum(region.allocated_clusters for region in ours.regions) == 4


@pytest.mark.oracle
@pytest.mark.parametrize("options", ["", "extended_l2=on,cluster_size=16k", "cluster_size=512"])
def test_written_in_random_order(options: str, tmp_path: Path) -> None:
    chosen = random.Random(options)
    path = create(tmp_path / "disk", "40M", *filter(None, [options]))
    places = list(range(0, 40 * MIB, 65536))
    chosen.shuffle(places)
    qemu_io(path, *(f"write -q -P 1 {at} 64k" for at in places[:300]))
    ours = _assert_as_check(path)
    with qcow.open(path) as image:
        assert isinstance(image, qcow.Image)
        clusters, runs, back, _ = _slow(image.active)
    assert (ours.runs, ours.jumps_back) == (runs, back)
    assert ours.mean_run == ours.run_bytes / runs
    assert 0 < ours.jumps_back < ours.runs
    assert len(ours.regions) == 64
    assert sum(region.allocated_clusters for region in ours.regions) == clusters
    assert sum(region.breaks for region in ours.regions) == runs
    assert sum(region.jumps_back for region in ours.regions) == back
    assert ours.regions[0].start == 0
    for one, other in pairwise(ours.regions):
        assert one.start + one.length == other.start
    assert ours.regions[-1].start + ours.regions[-1].length == 40 * MIB


def test_regions_tell_where_it_is_scattered(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=128 << 16)
    for number in range(64):
        builder.data(number, b"a")
    for number in range(127, 63, -1):
        builder.data(number, b"b")
    ours = _of(builder.write(tmp_path / "disk"))
    assert [region.breaks for region in ours.regions] == [1] + [0] * 31 + [2] * 32
    assert [region.allocated_clusters for region in ours.regions] == [2] * 64
    assert ours.runs == 65
    assert ours.jumps_back == 63
    assert ours.percentage == 100 * ours.fragmented_clusters / 128


@pytest.mark.oracle
def test_snapshots_have_their_own(tmp_path: Path) -> None:
    path = create(tmp_path / "disk", "8M")
    qemu_io(path, "write -q -P 1 0 2M")
    qemu_img("snapshot", "-c", "tidy", path)
    qemu_io(path, *(f"write -q -P 2 {at * 128}k 64k" for at in range(15, 0, -1)))
    assert _of(path, "tidy").runs == 1
    assert _of(path, "tidy").percentage == 0
    assert _of(path).runs == 31


def test_an_empty_disk(tmp_path: Path) -> None:
    for size in (0, 512, 1 << 40):
        ours = _of(ImageBuilder(virtual_size=size).write(tmp_path / str(size)))
        assert (ours.runs, ours.mean_run, ours.percentage, ours.jumps_back) == (0, 0.0, 0.0, 0)
        assert len(ours.regions) == min(64, ours.total_clusters)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("size", "options", "needed", "covers"),
    [
        (1 << 40, "", 128 * MIB, 256 << 30),
        (256 << 30, "", 32 * MIB, 256 << 30),
        (1 << 40, "extended_l2=on", 256 * MIB, 128 << 30),
        (1 << 40, "cluster_size=2M", 4 * MIB, 1 << 40),
        (100 << 30, "cluster_size=4k", 200 * MIB, 16 << 30),
        (5 << 20, "", 65536, 5 << 20),
    ],
)
def test_the_cache_that_covers_the_disk(
    size: int, options: str, needed: int, covers: int, tmp_path: Path
) -> None:
    path = create(tmp_path / "disk, with a comma.qcow2", str(size), *filter(None, [options]))
    cache = _of(path).l2_cache
    assert (cache.needed, cache.default_covers) == (needed, covers)
    assert cache.default_suffices == (needed <= 32 * MIB)
    told = l2_cache_options(str(path), cache.needed)
    name, argument = shlex.split(told.blockdev)
    assert name == "-blockdev"
    run("qemu-io", "-r", "--image-opts", "-c", "read 0 512", argument)
    name, argument = shlex.split(told.drive)
    assert name == "-drive"
    _, rest = argument.split("file=", 1)
    assert rest.replace(",,", "\0").split(",")[0].replace("\0", ",") == str(path)


def test_options_never_carry_what_cannot_be_shown() -> None:
    told = l2_cache_options("evil\x1b[2J\u202e.qcow2", 1 << 20)
    for option in (told.blockdev, told.drive):
        assert option.isprintable()
        assert "FILE" in option
    assert "file=./nbd:x,,y," in l2_cache_options("nbd:x,y", 1).drive
    assert "'driver=" in l2_cache_options("it's", 1).blockdev
    assert shlex.split(l2_cache_options("it's", 1).drive)[1].startswith("file=it's,")


@pytest.mark.oracle
def test_damaged_tables_are_passed_over(tmp_path: Path) -> None:
    path = small_image(tmp_path, snapshot=False)
    with qcow.open(path) as image:
        assert isinstance(image, qcow.Image)
        l1 = image.header.l1_table_offset
    whole = _of(path)
    patch(path, l1, (0x8000000000000000 | 0x30200).to_bytes(8, "big"))
    assert _of(path).allocated_clusters < whole.allocated_clusters
    patch(path, 36, b"\x7f\xff\xff\xff")
    with pytest.raises(GuestDataError):
        _of(path)


@pytest.mark.oracle
def test_progress_and_cancel(tmp_path: Path) -> None:
    path = written(tmp_path / "disk", "4M")
    with qcow.open(path) as image:
        assert isinstance(image, qcow.Image)
        seen: list[Progress] = []
        fragmentation(image.active, progress=seen.append)
        assert seen[-1].fraction == 1.0
        cancel = CancelToken()
        cancel.cancel()
        with pytest.raises(Cancelled):
            fragmentation(image.active, cancel=cancel)
