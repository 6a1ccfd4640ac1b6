"""Images for tests, made by the project's own builder and known byte by byte.

A test describes an image with an :class:`~qcowtui.samples.builder.ImageBuilder`, whose model also
says what every reader must find in it: no QEMU is needed to know the right answer.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.model import ImageModel
from qcowtui.samples.tables import SnapshotState

from .qemu import data_ranges, guest_raw, parsed, qemu_img


def pattern(number: int, size: int) -> bytes:
    """``size`` bytes that compress well and differ for each ``number``."""
    line = f"cluster {number:08d} of a test image, nothing to see here\n".encode()
    return (line * (size // len(line) + 1))[:size]


def noise(number: int, size: int) -> bytes:
    """``size`` bytes that do not compress, the same ones for the same ``number``."""
    return hashlib.shake_128(number.to_bytes(8, "big")).digest(size)


def small_builder(*, snapshot: bool = True, **options: int | bool | str) -> ImageBuilder:
    """A builder with a bit of everything its options allow (those of ImageBuilder).

    Guest clusters: 0-7 data, 8-9 zero plain (v3), 10-11 zero allocated (v3), 12-19 compressed,
    20 noise, and the disk's last cluster.  With ``snapshot`` a snapshot ``first`` is then taken and
    clusters 2-3 and 12 are rewritten.  The default disk spans two L2 tables and ends with half a
    cluster.
    """
    bits = int(options.get("cluster_bits", 16))
    span = 1 << bits >> (4 if options.get("extended_l2") else 3)
    whole = max(span + 7, 24)
    settings = {"virtual_size": (whole << bits) + (1 << bits - 1 & ~511), **options}
    builder = ImageBuilder(**settings)  # type: ignore[arg-type]
    size = builder.geometry.cluster_size
    for number in range(8):
        builder.data(number, pattern(number, size))
    if builder.geometry.version >= 3:
        builder.zero(8, 2)
        builder.zero_allocated(10, 2)
    for number in range(12, 20):
        builder.compressed(number, pattern(number, size))
    builder.data(20, noise(20, size))
    last = builder.geometry.clusters(builder.model.virtual_size) - 1
    builder.data(last, pattern(last, builder.model.virtual_size - (last << bits)))
    if snapshot:
        builder.snapshot("first", date=1_750_000_000)
        builder.data(2, pattern(102, size))
        builder.data(3, pattern(103, size))
        builder.data(12, pattern(112, size))
    return builder


def small_image(
    folder: Path,
    name: str = "small.qcow2",
    *,
    snapshot: bool = True,
    **options: int | bool | str,
) -> Path:
    """Write the image of :func:`small_builder` into ``folder``."""
    return small_builder(snapshot=snapshot, **options).write(folder / name)


def write_raw(
    model: ImageModel,
    path: Path,
    snapshot: SnapshotState | None = None,
    below: Path | None = None,
) -> Path:
    """Write the guest disk by the model to ``path``, a sparse raw file.

    ``below`` is the raw disk of the backing file (shorter or longer is fine).
    """
    size = model.geometry.cluster_size
    with open(path, "xb") as out:
        if below is not None:
            _copy_sparse(below, out.fileno(), model.virtual_size)
        out.truncate(model.virtual_size)
        for guest in model.guest_clusters(snapshot):
            content = model.read_cluster(guest, snapshot)
            if content is not None:
                offset = guest * size
                os.pwrite(out.fileno(), content[: model.virtual_size - offset], offset)
    return path


def _copy_sparse(source: Path, target: int, limit: int) -> None:
    fd = os.open(source, os.O_RDONLY)
    try:
        for start, length in data_ranges(source):
            end = min(limit, start + length)
            for at in range(start, end, 1 << 20):
                os.pwrite(target, os.pread(fd, min(1 << 20, end - at), at), at)
    finally:
        os.close(fd)


def guest_bytes(model: ImageModel, snapshot: SnapshotState | None = None) -> bytes:
    """The guest disk by the model, whole: for small disks."""
    size = model.geometry.cluster_size
    disk = bytearray(model.geometry.clusters(model.virtual_size) * size)
    for guest in model.guest_clusters(snapshot):
        disk[guest * size : (guest + 1) * size] = model.read_cluster(guest, snapshot) or bytes(size)
    return bytes(disk[: model.virtual_size])


def assert_qemu_reads(
    image: Path, model: ImageModel, snapshot: SnapshotState | None = None, below: Path | None = None
) -> None:
    """qemu-img reads exactly what the model says; works beside ``image``, sparsely."""
    told = image.with_name(image.name + ".told.raw")
    read = image.with_name(image.name + ".read.raw")
    try:
        write_raw(model, told, snapshot, below)
        guest_raw(image, read, snapshot.id.decode() if snapshot else None)
        qemu_img("compare", "-q", "-f", "raw", "-F", "raw", told, read)
        assert told.stat().st_size == read.stat().st_size
    finally:
        told.unlink(missing_ok=True)
        read.unlink(missing_ok=True)


@dataclass(frozen=True)
class QemuCheck:
    """What ``qemu-img check`` found."""

    code: int
    corruptions: int
    leaks: int
    check_errors: int
    image_end_offset: int
    allocated_clusters: int
    fragmented_clusters: int
    compressed_clusters: int


def qemu_check(image: Path | str) -> QemuCheck:
    """Check an image without repair (``image``: a path, or a ``json:`` name)."""
    done = qemu_img("check", "--output=json", image, check=False)
    said = dict(parsed(done.stdout[done.stdout.index(b"{") :]))
    return QemuCheck(
        code=done.returncode,
        corruptions=said.get("corruptions", 0),
        leaks=said.get("leaks", 0),
        check_errors=said["check-errors"],
        image_end_offset=said.get("image-end-offset", 0),
        allocated_clusters=said.get("allocated-clusters", 0),
        fragmented_clusters=said.get("fragmented-clusters", 0),
        compressed_clusters=said.get("compressed-clusters", 0),
    )


def patch(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file that exists: to damage an image that QEMU made."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def sha256(path: Path) -> str:
    """The hash of a whole file; holes count as zeros."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
