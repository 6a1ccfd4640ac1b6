"""Extended L2 entries, bitmaps, encryption, real file systems, other writers, hand-made damage."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.oracle.catalogue.base import Theme, create, noise, overlay, prose, stripes, written
from tests.support.qemu import create_encrypted, qemu_img, qemu_io, with_key

theme = Theme()
extended = Theme("extended-l2")
bitmaps = Theme("bitmaps")
encrypted = Theme("encrypted")
damaged = Theme("damaged", "poked")


# --- extended L2 entries -------------------------------------------------------------------


def _subclusters(path: Path, cluster: int) -> Path:
    part = cluster // 32
    qemu_io(
        path,
        f"write -q -P 1 {3 * part} {part}",
        f"write -q -P 2 {cluster + 5 * part} {9 * part}",
        f"write -q -P 3 {4 * cluster} {2 * cluster}",
        f"write -q -z {cluster + 7 * part} {2 * part}",
        f"write -q -z {4 * cluster + 30 * part} {4 * part}",
        f"write -q -z {8 * cluster} {cluster}",
        f"write -q -z {9 * cluster + part} {3 * part}",
        f"discard -q {5 * cluster + 8 * part} {8 * part}",
        f"write -q -P 4 {10 * cluster + 31 * part} {2 * part}",
    )
    return path


def _extended(folder: Path, cluster: int, *options: str) -> Path:
    path = create(
        folder / "disk.qcow2",
        str(16 * cluster),
        "extended_l2=on",
        f"cluster_size={cluster}",
        *options,
    )
    return _subclusters(path, cluster)


for _cluster in (16384, 65536, 131072, 2 << 20):
    extended.add(f"extended-l2-{_cluster}", partial(_extended, cluster=_cluster))
extended.add(
    "extended-l2-preallocated",
    lambda folder: _extended(folder, 65536, "preallocation=metadata"),
    "preallocated",
)


@extended.variant("extended-l2-backing", "backing")
def extended_backing(folder: Path) -> Path:
    written(folder / "base.qcow2", "2M")
    path = overlay(folder / "disk.qcow2", "base.qcow2", "qcow2", "", "extended_l2=on")
    return _subclusters(path, 65536)


@extended.variant("extended-l2-backing-preallocated", "backing", "preallocated")
def extended_backing_preallocated(folder: Path) -> Path:
    written(folder / "base.qcow2", "2M")
    return overlay(
        folder / "disk.qcow2", "base.qcow2", "qcow2", "", "extended_l2=on", "preallocation=metadata"
    )


@extended.variant("extended-l2-snapshots", "snapshots")
def extended_snapshots(folder: Path) -> Path:
    path = _extended(folder, 65536)
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -q -P 7 6k 2k", "write -q -P 8 70k 30k", "write -q -z 260k 2k")
    qemu_img("snapshot", "-c", "second", path)
    return path


@extended.variant("extended-l2-compressed-parts", "compressed")
def extended_compressed(folder: Path) -> Path:
    path = _extended(folder, 65536)
    qemu_io(path, "write -q -c -P 0x61 448k 64k", "write -q -c -P 0x62 768k 64k")
    return path


# --- persistent bitmaps --------------------------------------------------------------------


@bitmaps.variant("bitmaps-several")
def bitmaps_several(folder: Path) -> Path:
    path = written(folder / "disk.qcow2", "16M")
    qemu_img("bitmap", "--add", path, "default")
    qemu_img("bitmap", "--add", "-g", "512", path, "fine")
    qemu_img("bitmap", "--add", "-g", "2M", "--disable", path, "frozen")
    qemu_io(path, "write -q -P 0x51 1M 100k", "write -q -P 0x52 9M 1M")
    return path


@bitmaps.variant("bitmaps-in-use")
def bitmaps_in_use(folder: Path) -> Path:
    """Left behind by a killed writer: inconsistent, only good for removing."""
    path = written(folder / "disk.qcow2", "16M")
    qemu_img("bitmap", "--add", path, "backup")
    qemu_img("bitmap", "--add", "--disable", path, "frozen")
    qemu_io(path, "write -q -P 0x51 1M 100k", "flush", killed=True)
    return path


@bitmaps.variant("bitmaps-512-clusters")
def bitmaps_small(folder: Path) -> Path:
    path = written(folder / "disk.qcow2", "8M", "cluster_size=512", unit=4096)
    qemu_img("bitmap", "--add", "-g", "512", path, "fine")
    qemu_io(path, *stripes(7 << 20, 400 * 1024))
    return path


@bitmaps.variant("bitmaps-merged")
def bitmaps_merged(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "16M")
    qemu_img("bitmap", "--add", path, "one")
    qemu_io(path, "write -q -P 1 1M 100k")
    qemu_img("bitmap", "--disable", path, "one")
    qemu_img("bitmap", "--add", path, "two")
    qemu_io(path, "write -q -P 2 9M 1M")
    qemu_img("bitmap", "--merge", "two", path, "one")
    return path


@bitmaps.variant("bitmaps-resized")
def bitmaps_resized(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "4M")
    qemu_img("bitmap", "--add", path, "grows")
    qemu_io(path, "write -q -P 1 1M 100k")
    qemu_img("resize", "-q", path, "20M")
    return path


@bitmaps.variant("bitmaps-snapshots", "snapshots")
def bitmaps_snapshots(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "4M")
    qemu_img("bitmap", "--add", path, "one")
    qemu_io(path, "write -q -P 1 1M 100k")
    qemu_img("snapshot", "-c", "first", path)
    qemu_io(path, "write -q -P 2 1M 300k")
    return path


# --- encryption ----------------------------------------------------------------------------


def _encrypted(folder: Path, *options: str, kind: str = "luks") -> Path:
    path = folder / "disk.qcow2"
    create_encrypted(path, "4M", *options, kind=kind)
    qemu_io(path, "write -q -P 0x71 0 300k", "write -q -P 0x72 2M 5k", key=kind)
    return path


encrypted.add("luks", _encrypted, "luks")
encrypted.add(
    "luks-aes-128-cbc-essiv",
    lambda folder: _encrypted(
        folder,
        "encrypt.cipher-alg=aes-128",
        "encrypt.cipher-mode=cbc",
        "encrypt.ivgen-alg=essiv",
        "encrypt.ivgen-hash-alg=sha256",
        "encrypt.hash-alg=sha1",
    ),
    "luks",
)
encrypted.add(
    "luks-extended-l2",
    lambda folder: _encrypted(folder, "extended_l2=on", "cluster_size=16k"),
    "luks",
    "extended-l2",
)


@encrypted.variant("luks-snapshots", "luks", "snapshots")
def luks_snapshots(folder: Path) -> Path:
    path = _encrypted(folder)
    qemu_img("snapshot", "-c", "sealed", *with_key(path))
    qemu_io(path, "write -q -P 0x73 1M 100k", key="luks")
    return path


encrypted.add("aes-legacy", partial(_encrypted, kind="aes"), "aes")
encrypted.add(
    "aes-legacy-v2", lambda folder: _encrypted(folder, "compat=0.10", kind="aes"), "aes", "v2"
)


# --- real contents, other writers ----------------------------------------------------------


def _ext4(folder: Path) -> Path:
    """A raw ext4 file system with files in it."""
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "var" / "log").mkdir(parents=True)
    (tree / "etc" / "hostname").write_text("web01\n")
    for index in range(12):
        prose(tree / "var" / "log" / f"syslog.{index}", index, 40_000 + 1000 * index)
    noise(tree / "var" / "blob", 31, 700_000)
    raw = folder / "ext4.raw"
    with raw.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-d", str(tree), "-U", "6d0f27a4-4ac9-4d3c-8f43-10f1d2b2c0aa",
         "-E", "hash_seed=6d0f27a4-4ac9-4d3c-8f43-10f1d2b2c0ab", str(raw)],
        check=True, capture_output=True, timeout=60,
        env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "E2FSPROGS_FAKE_TIME": "1700000000"},
    )  # fmt: skip
    return raw


def _file_system(folder: Path, *options: str) -> Path:
    qemu_img("convert", *options, "-f", "raw", "-O", "qcow2", _ext4(folder), folder / "disk.qcow2")
    return folder / "disk.qcow2"


theme.add("ext4", _file_system)
theme.add("ext4-compressed", lambda folder: _file_system(folder, "-c"), "compressed")
theme.add(
    "ext4-extended-l2",
    lambda folder: _file_system(folder, "-o", "extended_l2=on,cluster_size=128k"),
    "extended-l2",
)


@theme.variant("written-through-nbd")
def through_nbd(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "8M")
    # Not in the image's folder: the path of a socket may be 107 bytes long at most.
    socket_folder = Path(tempfile.mkdtemp())
    socket = socket_folder / "nbd"
    server = subprocess.Popen(
        ["qemu-nbd", "-f", "qcow2", "-k", str(socket), "--discard=unmap", str(path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        commands = [*stripes(3 << 20, 200 * 1024), "write -q -z -u 1M 256k", "discard -q 2M 128k"]
        given = [part for command in commands for part in ("-c", command)]
        for _ in range(500):
            if socket.exists() or server.poll() is not None:
                break
            try:
                server.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
        subprocess.run(
            ["qemu-io", *given, "-f", "raw", f"nbd+unix:///?socket={socket}"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    finally:
        try:
            server.communicate(timeout=60)  # it closes the image when its only client is gone
        finally:
            server.kill()
        shutil.rmtree(socket_folder)
    return path


# --- hand-made damage ----------------------------------------------------------------------


def _poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _peek64(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        file.seek(offset)
        value: int = struct.unpack(">Q", file.read(8))[0]
        return value


#: With 64 KiB clusters and 16-bit counts qemu-img puts the first refcount block at cluster 2 and
#: the L1 table at cluster 3.
_BLOCK, _L1 = 2 * 65536, 3 * 65536


def _damaged(harm: Callable[[Path], None]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = written(folder / "disk.qcow2", "16M")
        harm(path)
        return path

    return build


def _first_l2(path: Path) -> int:
    return _peek64(path, _L1) & 0x00FFFFFFFFFFFE00


def _leaks(path: Path) -> None:
    end = path.stat().st_size
    for index in range(5):
        _poke(path, _BLOCK + 2 * (end // 65536 + index), b"\0\1")
    with path.open("r+b") as file:
        file.truncate(end + 5 * 65536)


def _too_low(path: Path) -> None:
    _poke(path, _BLOCK + 2 * 6, b"\0\0")


def _too_high(path: Path) -> None:
    _poke(path, _BLOCK + 2 * 6, b"\0\3")


def _copied(path: Path) -> None:
    table = _first_l2(path)
    _poke(path, table, struct.pack(">Q", _peek64(path, table) & ~(1 << 63)))


def _lost_l2(path: Path) -> None:
    _poke(path, _L1, bytes(8))


def _overlap(path: Path) -> None:
    _poke(path, _first_l2(path) + 8 * 3, struct.pack(">Q", (1 << 63) | _L1))


def _truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5 * 65536)


def _reserved(path: Path) -> None:
    table = _first_l2(path)
    _poke(path, table, struct.pack(">Q", _peek64(path, table) | 1 << 57))


def _unaligned(path: Path) -> None:
    table = _first_l2(path)
    _poke(path, table, struct.pack(">Q", _peek64(path, table) + 1024))


def _corrupt_bit(path: Path) -> None:
    _poke(path, 72, struct.pack(">Q", 2))


for _name, _harm in {
    "leaks": _leaks,
    "refcount-too-low": _too_low,
    "refcount-too-high": _too_high,
    "copied-flag": _copied,
    "lost-l2": _lost_l2,
    "overlap": _overlap,
    "truncated": _truncated,
    "reserved-bits": _reserved,
    "unaligned-data": _unaligned,
    "corrupt-bit": _corrupt_bit,
}.items():
    # QEMU gives up at a misaligned entry, and reads zeros where the file has been cut off.
    _tags = {"unaligned-data": ("unreadable",), "truncated": ("truncated",)}.get(_name, ())
    damaged.add(f"damaged-{_name}", _damaged(_harm), *_tags)
