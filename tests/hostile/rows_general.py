"""G1..G19: images that are odd as a whole, beside or because of other files."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from .bases import CLUSTER, COPIED, DATA, L1, L2, REFCOUNT_BLOCK, Bases
from .ext_area import BACKING_FORMAT, DATA_FILE, END, area, backing, extension
from .many import many_bitmaps, many_snapshots
from .model import Build, Damage, on
from .rows_tables import deflate, first_stream

_L1_SIZE = 36
_QCOW2 = (BACKING_FORMAT, b"qcow2")
_JOURNAL = "image.qcow2.qcowtui-journal"


def _ring(length: int) -> Build:
    """``length`` images, each the next one's overlay, the last one's base being the first."""

    def build(bases: Bases, folder: Path) -> Path:
        names = ["image.qcow2", *(f"layer{number}.qcow2" for number in range(1, length))]
        for name, base in zip(names, (*names[1:], names[0]), strict=True):
            damage = Damage(bases.path("tiny"))
            backing(base.encode(), _QCOW2)(damage)
            (folder / name).write_bytes(damage.data)
        return folder / names[0]

    return build


def _deep_chain(bases: Bases, folder: Path) -> Path:
    """201 layers, the lowest of which has no backing file."""
    for number in range(200):
        damage = Damage(bases.path("tiny"))
        backing(f"layer{number + 1}.qcow2".encode(), _QCOW2)(damage)
        name = f"layer{number}.qcow2" if number else "image.qcow2"
        (folder / name).write_bytes(damage.data)
    shutil.copyfile(bases.path("tiny"), folder / "layer200.qcow2")
    return folder / "image.qcow2"


def _over_raw(size: int) -> Build:
    """An overlay of a raw disk of that many bytes."""

    def build(bases: Bases, folder: Path) -> Path:
        with (folder / "disk.raw").open("wb") as disk:
            disk.truncate(size)
        return on("backing", backing(b"disk.raw", (BACKING_FORMAT, b"raw")))(bases, folder)

    return build


def _link_loop(bases: Bases, folder: Path) -> Path:
    (folder / "image.qcow2").symlink_to("other.qcow2")
    (folder / "other.qcow2").symlink_to("image.qcow2")
    return folder / "image.qcow2"


def _backing_link_loop(bases: Bases, folder: Path) -> Path:
    (folder / "loop.qcow2").symlink_to("loop.qcow2")
    return on("backing", backing(b"loop.qcow2", _QCOW2))(bases, folder)


def _hard_link_to_itself(bases: Bases, folder: Path) -> Path:
    image = on("backing", backing(b"twin.qcow2", _QCOW2))(bases, folder)
    (folder / "twin.qcow2").hardlink_to(image)
    return image


def _grown(base: str, size: int) -> Build:
    """A file of ``size`` bytes, or as many as the file system takes, nearly all of them a hole."""

    def build(bases: Bases, folder: Path) -> Path:
        image = on(base)(bases, folder)
        length = size
        while True:
            try:
                os.truncate(image, length)
            except OSError as error:
                if error.errno not in (errno.EFBIG, errno.EINVAL):
                    raise
                length //= 2
            else:
                return image

    return build


def _trailing_bytes(damage: Damage) -> None:
    """What a device holds behind an image that is smaller."""
    end = len(damage.data)
    damage.reach(end + (1 << 20))
    damage.put(end, b"left over from before" * 1000)


def _compressed_over_data(damage: Damage) -> None:
    """The second guest cluster lies plainly where compressed clusters lie, and is counted."""
    damage.set("Q", L2 + 8, DATA)


def _greatest_refcount(bits: int) -> Build:
    """A cluster that nothing refers to, with the greatest refcount that has that many bits."""

    def step(damage: Damage) -> None:
        number = damage.append_cluster() // CLUSTER
        if bits >= 8:
            damage.put(REFCOUNT_BLOCK + number * bits // 8, b"\xff" * (bits // 8))
        else:
            at, shift = divmod(number * bits, 8)
            mask = (1 << bits) - 1 << shift
            damage.set("B", REFCOUNT_BLOCK + at, damage.get("B", REFCOUNT_BLOCK + at) | mask)

    return on(f"refcount_{bits}", step)


def _counted(damage: Damage) -> int:
    """A new cluster at the end, with refcount 1."""
    at = damage.append_cluster()
    damage.set("H", REFCOUNT_BLOCK + 2 * (at // CLUSTER), 1)
    return at


def _vm_state(damage: Damage) -> None:
    """The L1 table has a second entry, behind the disk's end: that is where VM state lies."""
    table, data = _counted(damage), _counted(damage)
    damage.set("I", _L1_SIZE, 2)
    damage.set("Q", L1 + 8, COPIED | table)
    damage.set("Q", table, COPIED | data)


def _foreign_clusters(damage: Damage) -> None:
    """An unknown header extension points at clusters that only its maker knows."""
    first = _counted(damage)
    _counted(damage)
    known = extension(0x5A5A5A5A, first.to_bytes(8, "big"))
    area(known + extension(END, b""))(damage)


def _journal(content: bytes | None) -> Build:
    """A healthy image beside a forged journal; None: a link to a file elsewhere."""

    def build(bases: Bases, folder: Path) -> Path:
        if content is None:
            (folder / _JOURNAL).symlink_to("/etc/passwd")
        else:
            (folder / _JOURNAL).write_bytes(content)
        return on("v3")(bases, folder)

    return build


def _journal_fifo(bases: Bases, folder: Path) -> Path:
    os.mkfifo(folder / _JOURNAL)
    return on("v3")(bases, folder)


def _refcount_rows() -> dict[str, Build]:
    return {f"G16-{bits}": _greatest_refcount(bits) for bits in (1, 2, 4, 8, 32, 64)}


GENERAL: dict[str, Build] = {
    "G1-2": _ring(2),
    "G1-3": _ring(3),
    "G2": _deep_chain,
    "G3-larger": _over_raw(96 << 20),
    "G3-smaller": _over_raw(100_000),
    "G4-image": _link_loop,
    "G4-backing": _backing_link_loop,
    "G5": _hard_link_to_itself,
    "G6": on(
        "data_file",
        backing(b"disk.raw", (DATA_FILE, b"disk.raw"), (BACKING_FORMAT, b"raw")),
    ),
    "G7-case": on("backing", backing(b"BASE.QCOW2", _QCOW2)),
    "G7-slash": on("backing", backing(b"base.qcow2/", _QCOW2)),
    "G9": _grown("v3", 4 << 50),
    "G10": _grown("tiny", (16 << 40) - 4096),
    "G11": on("v3", _trailing_bytes),
    "G12": lambda bases, folder: many_snapshots(folder / "image.qcow2", 65_536),
    "G13": lambda bases, folder: many_bitmaps(folder / "image.qcow2", 65_535),
    "G14": on("zlib", first_stream(deflate(b"complete" * (CLUSTER // 8)) + b"\xff" * 700)),
    "G15-legal": on("zlib"),
    "G15-illegal": on("zlib", _compressed_over_data),
    **_refcount_rows(),
    "G17": on("v3", _vm_state),
    "G18": on("v3", _foreign_clusters),
    "G19-forged": _journal(b"QCOWTUI JOURNAL\0" * 64),
    "G19-torn": _journal(b"QC"),
    "G19-link": _journal(None),
    "G19-fifo": _journal_fifo,
}
