"""The class of every host and guest cluster, and who refers to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qcow
from qcow.errors import Cancelled
from qcow.image.image import Image
from qcow.inspect.classes import ClusterClass as C
from qcow.inspect.guest_classes import guest_classes
from qcow.inspect.owners import OwnerMap, scan_owners
from qcow.inspect.references import references_to
from qcow.jobs import CancelToken
from qcowtui.samples import damage
from qcowtui.samples.builder import ImageBuilder
from tests.support.images import small_builder
from tests.support.qemu import create_encrypted, qemu_img, qemu_io

SIZE = 65536


def classes_of(path: Path) -> tuple[OwnerMap, list[C]]:
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        owners = scan_owners(image)
        return owners, [owners.class_of(i) for i in range(owners.total)]


@pytest.mark.oracle
def test_fresh_image_in_qemus_order(tmp_path: Path) -> None:
    path = tmp_path / "fresh.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    qemu_io(path, "write 0 64k", "write -z 64k 64k", "write 128k 64k", "write -z 128k 64k")
    owners, found = classes_of(path)
    assert found == [
        C.HEADER, C.REFCOUNT_TABLE, C.REFCOUNT_BLOCK, C.L1, C.L2, C.DATA, C.ZERO_ALLOCATED,
    ]  # fmt: skip
    assert owners.image_end == owners.total == 7


@pytest.mark.oracle
def test_snapshots_share_and_have_tables(tmp_path: Path) -> None:
    path = tmp_path / "snapshots.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    qemu_io(path, "write 0 128k")
    qemu_img("snapshot", "-c", "one", path)
    qemu_io(path, "write 0 64k")
    owners, found = classes_of(path)
    assert owners.counts[C.SHARED] == 1
    assert owners.counts[C.DATA] == 2
    assert owners.counts[C.SNAPSHOT_L1] == owners.counts[C.SNAPSHOT_TABLE] == 1
    shared = found.index(C.SHARED)
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        refers = references_to(image, shared)
        assert refers.refcount == refers.total == 2
        assert {state for r in refers.references for state in r.states} == {"active", "snapshot:1"}
        assert {(r.owner, r.l1_index, r.l2_index, r.guest_offset) for r in refers.references} == {
            ("data", 0, 1, SIZE)
        }
        by_guest = np.concatenate([part for _first, part in guest_classes(image.active, owners)])
    assert by_guest[:3].tolist() == [C.DATA, C.SHARED, C.FREE]
    assert len(by_guest) == 1024


@pytest.mark.oracle
def test_luks_header_bitmaps_and_vm_state_have_classes(tmp_path: Path) -> None:
    luks = tmp_path / "luks.qcow2"
    create_encrypted(luks, "1M")
    assert classes_of(luks)[0].counts[C.LUKS_HEADER] > 1
    bitmaps = tmp_path / "bitmaps.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", bitmaps, "64M")
    qemu_img("bitmap", "--add", bitmaps, "b0")
    qemu_io(bitmaps, "write 0 64k")
    assert classes_of(bitmaps)[0].counts[C.BITMAP] == 3  # directory, table, data
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.data(0, b"x" * 512)
    builder.snapshot("with memory", vm_state=[b"m" * 512] * 3)
    builder.data(1, b"y" * 512)
    assert classes_of(builder.write(tmp_path / "vm.qcow2"))[0].counts[C.VM_STATE] == 3


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_clusters_may_share_a_host_cluster(tmp_path: Path, compression: str) -> None:
    builder = ImageBuilder(virtual_size=1 << 20, compression=compression)
    for guest in range(4):
        builder.compressed(guest, bytes([guest]) * 512)
    owners, found = classes_of(builder.write(tmp_path / "packed.qcow2"))
    assert owners.counts[C.COMPRESSED] == 1
    with qcow.open(tmp_path / "packed.qcow2") as image:
        assert isinstance(image, Image)
        refers = references_to(image, found.index(C.COMPRESSED))
        assert [r.owner for r in refers.references] == ["compressed data"] * 4
        assert refers.refcount == 4


def test_damage_has_its_own_classes(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20)
    for guest in range(6):
        builder.data(guest, bytes([guest + 1]) * 512)
    built = builder.build()
    damage.leak_clusters(built, 2)
    damage.lower_refcounts(built, [2])
    damage.overlap_l1_table(built, 4)
    owners, found = classes_of(built.save(tmp_path / "damaged.qcow2"))
    assert owners.counts[C.OVERLAPPING] == 1
    assert owners.counts[C.CORRUPT] == 1
    assert owners.counts[C.LEAKED] == 3  # the displaced data of guest cluster 4 leaks, too
    assert C.L1 not in found  # it is what overlaps


@pytest.mark.oracle
def test_postponed_counts_of_a_dirty_image_are_not_dramatised(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=1 << 20, lazy_refcounts=True)
    builder.data(0, b"x" * 512)
    built = builder.build()
    damage.mark_dirty(built)
    damage.lower_refcounts(built, [0])
    _owners, found = classes_of(built.save(tmp_path / "dirty.qcow2"))
    assert not any(kind.is_problem for kind in found)


@pytest.mark.oracle
def test_free_inside_and_beyond_the_end(tmp_path: Path) -> None:
    path = tmp_path / "holes.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    qemu_io(path, "write 0 1M", "discard 256k 256k")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 3 * SIZE)
    owners, _found = classes_of(path)
    assert owners.counts[C.FREE] == 4
    assert owners.counts[C.BEYOND_END] == 3


def test_everything_is_published_while_the_scan_runs(tmp_path: Path) -> None:
    builder = small_builder(snapshot=True)
    path = builder.write(tmp_path / "image.qcow2")
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        seen: dict[int, int] = {}
        counted: dict[int, int] = {}

        def publish(first: int, part: np.ndarray) -> None:
            seen.update(enumerate(part.tolist(), first))

        def publish_counts(first: int, part: np.ndarray, mismatch: np.ndarray) -> None:
            assert not mismatch.any()
            counted.update(enumerate(part.tolist(), first))

        owners = scan_owners(image, publish=publish, publish_counts=publish_counts)
        assert [seen[i] for i in range(owners.total)] == [
            owners.class_of(i) for i in range(owners.total)
        ]
        for cluster, count in counted.items():
            assert references_to(image, cluster).total == count


@pytest.mark.parametrize("width", [1, 8, 16, 32, 64])
def test_counts_of_every_width_are_published(tmp_path: Path, width: int) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"refcount_bits={width}", path, "64M")
    qemu_io(path, "write 0 1M")
    counted: dict[int, int] = {}

    def publish_counts(first: int, part: np.ndarray, mismatch: np.ndarray) -> None:
        assert part.dtype == np.uint16
        assert not mismatch.any()
        counted.update(enumerate(part.tolist(), first))

    with qcow.open(path) as image:
        assert isinstance(image, Image)
        owners = scan_owners(image, publish_counts=publish_counts)
    assert [counted[cluster] for cluster in range(owners.image_end)] == [1] * owners.image_end


def test_the_scan_can_be_cancelled(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "image.qcow2")
    token = CancelToken()
    token.cancel()
    with qcow.open(path) as image:
        assert isinstance(image, Image)
        with pytest.raises(Cancelled):
            scan_owners(image, cancel=token)
