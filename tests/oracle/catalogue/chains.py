"""Overlays on backing files, and images whose data lies in another file.

QEMU looks for a relative backing file beside the overlay, but for a relative data file in the
current folder: whatever opens an image with a data file here does so with the image's folder as
the current one.
"""

from __future__ import annotations

from pathlib import Path

from tests.oracle.catalogue.base import Theme, noise, overlay, stripes, written
from tests.support.qemu import qemu_img, qemu_io

theme = Theme("backing")
data_files = Theme("data-file")


def _base(folder: Path, size: str = "8M", *options: str) -> Path:
    return written(folder / "base.qcow2", size, *options)


@theme.variant("backing-same-size")
def same_size(folder: Path) -> Path:
    _base(folder)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2")
    qemu_io(path, "write -q -P 0xa1 200k 300k", "write -q -P 0xa2 6M 1k")
    return path


@theme.variant("backing-untouched")
def untouched(folder: Path) -> Path:
    _base(folder)
    return overlay(folder / "disk.qcow2", "base.qcow2", "qcow2")


@theme.variant("backing-larger")
def larger(folder: Path) -> Path:
    _base(folder)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2", "1000k")
    qemu_io(path, "write -q -P 0xa1 200k 100k")
    return path


@theme.variant("backing-smaller")
def smaller(folder: Path) -> Path:
    _base(folder, "1700k")
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2", "9M")
    qemu_io(path, "write -q -P 0xa1 1650k 100k", "write -q -P 0xa2 7M 4k")
    return path


@theme.variant("backing-raw")
def raw(folder: Path) -> Path:
    noise(folder / "base.raw", 11, 1_000_448)
    path = overlay(folder / "disk.qcow2", "base.raw", "raw")
    qemu_io(path, "write -q -P 0xa1 100k 100k", "write -q -z 300k 64k")
    return path


@theme.variant("backing-raw-sparse-smaller")
def raw_sparse(folder: Path) -> Path:
    base = noise(folder / "base.raw", 12, 300_000 // 512 * 512)
    with base.open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"island" * 1000)
        file.truncate(3 << 20)
    path = overlay(folder / "disk.qcow2", "base.raw", "raw", "5M", "cluster_size=4k")
    qemu_io(path, "write -q -P 0xa1 2M 1k", "write -q -P 1 4M 8k")
    return path


@theme.variant("backing-three-deep", "v2")
def three_deep(folder: Path) -> Path:
    noise(folder / "root.raw", 13, 1 << 20)
    overlay(folder / "low.qcow2", "root.raw", "raw", "4M")
    qemu_io(folder / "low.qcow2", "write -q -P 1 512k 1M")
    overlay(folder / "mid.qcow2", "low.qcow2", "qcow2", "3M", "cluster_size=4k")
    qemu_io(folder / "mid.qcow2", *stripes(1 << 20, 30 * 1024), "write -q -z 1100k 64k")
    path = overlay(folder / "disk.qcow2", "mid.qcow2", "qcow2", "6M", "compat=0.10")
    qemu_io(path, "write -q -P 2 0 64k", "write -q -P 3 2500k 700k")
    return path


@theme.variant("backing-v2", "v2")
def version_2(folder: Path) -> Path:
    _base(folder, "8M", "compat=0.10")
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2", "", "compat=0.10")
    qemu_io(path, "write -q -P 0xa1 200k 300k", "write -q -z 1M 64k")
    return path


@theme.variant("backing-subfolder")
def subfolder(folder: Path) -> Path:
    (folder / "golden").mkdir()
    _base(folder / "golden")
    path = overlay(folder / "disk.qcow2", "golden/base.qcow2", "qcow2")
    qemu_io(path, "write -q -P 0xa1 200k 300k")
    return path


@theme.variant("backing-parent-folder", "follow")
def parent_folder(folder: Path) -> Path:
    _base(folder)
    (folder / "vms").mkdir()
    path = overlay(folder / "vms" / "disk.qcow2", "../base.qcow2", "qcow2")
    qemu_io(path, "write -q -P 0xa1 200k 300k")
    return path


@theme.variant("backing-spaces-in-name")
def spaces(folder: Path) -> Path:
    _base(folder).rename(folder / "golden image (1).qcow2")
    return overlay(folder / "disk.qcow2", "golden image (1).qcow2", "qcow2")


@theme.variant("backing-zeroed-over")
def zeroed_over(folder: Path) -> Path:
    _base(folder)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2")
    qemu_io(
        path,
        "write -q -z 100k 500k",
        "discard -q 1M 256k",
        "write -q -P 0xa1 640k 64k",
        "write -q -z 640k 64k",
    )
    return path


@theme.variant("backing-with-snapshots", "snapshots")
def with_snapshots(folder: Path) -> Path:
    _base(folder)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2")
    qemu_io(path, "write -q -P 0xa1 200k 300k")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -q -P 0xa2 0 300k", "write -q -z 700k 128k")
    qemu_img("snapshot", "-c", "second", path)
    return path


@theme.variant("backing-compressed-over-compressed", "compressed")
def compressed(folder: Path) -> Path:
    base = _base(folder)
    base.rename(folder / "plain.qcow2")
    qemu_img("convert", "-c", "-O", "qcow2", folder / "plain.qcow2", base)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2")
    qemu_io(path, "write -q -c -P 0xa1 256k 64k", "write -q -c -P 0xa2 1M 64k")
    return path


@theme.variant("backing-committed")
def committed(folder: Path) -> Path:
    """An overlay emptied by a commit."""
    _base(folder)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2")
    qemu_io(path, "write -q -P 0xa1 200k 300k")
    qemu_img("commit", "-q", path)
    return path


@theme.variant("backing-rebased-away")
def rebased_away(folder: Path) -> Path:
    _base(folder)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2")
    qemu_io(path, "write -q -P 0xa1 200k 300k")
    qemu_img("rebase", "-b", "", path)
    return path


@theme.variant("backing-long-name")
def long_name(folder: Path) -> Path:
    name = "b" * 240 + ".qcow2"
    _base(folder).rename(folder / name)
    return overlay(folder / "disk.qcow2", name, "qcow2", "", "cluster_size=512")


@theme.variant("backing-raw-empty")
def raw_empty(folder: Path) -> Path:
    (folder / "base.raw").write_bytes(b"")
    path = overlay(folder / "disk.qcow2", "base.raw", "raw", "1M")
    qemu_io(path, "write -q -P 4 64k 64k")
    return path


def _data_file(folder: Path, *options: str) -> Path:
    qemu_img(
        "create", "-q", "-f", "qcow2", "-o", ",".join(("data_file=disk.data", *options)),
        "disk.qcow2", "8M",
        cwd=folder,
    )  # fmt: skip
    path = folder / "disk.qcow2"
    commands = (*stripes(3 << 20, 150 * 1024), "write -q -z 1M 128k", "discard -q 2M 128k")
    qemu_io(path, *commands, cwd=folder)
    return path


data_files.add("data-file", _data_file)
data_files.add("data-file-raw", lambda folder: _data_file(folder, "data_file_raw=on"))
data_files.add("data-file-4k", lambda folder: _data_file(folder, "cluster_size=4k"))
data_files.add(
    "data-file-extended-l2", lambda folder: _data_file(folder, "extended_l2=on"), "extended-l2"
)


@data_files.variant("data-file-backing", "backing")
def data_file_backing(folder: Path) -> Path:
    _base(folder)
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2", "", "data_file=disk.data")
    qemu_io(path, "write -q -P 0xa1 200k 300k", cwd=folder)
    return path


@data_files.variant("data-file-preallocated")
def data_file_preallocated(folder: Path) -> Path:
    qemu_img(
        "create", "-q", "-f", "qcow2", "-o", "data_file=disk.data,preallocation=metadata",
        "disk.qcow2", "2M",
        cwd=folder,
    )  # fmt: skip
    return folder / "disk.qcow2"
