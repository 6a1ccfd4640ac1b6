"""Internal snapshots."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

from tests.oracle.catalogue.base import Theme, create, written
from tests.support.qemu import qemu_img, qemu_io

theme = Theme("snapshots")

#: Names that would hurt a screen: escape codes, markup, an isolate, a wide and a combining one.
HOSTILE_NAMES = (
    "\x1b[31mred\x1b]52;c;eA==\x07",
    "[@click=app.quit]x[/]",
    "\u202egnp.exe\u2066",
    "[/]",
    "tab\tnew\nline",
    "日本語 é\u0301",
    'quote"back\\slash',
    "n" * 60,
)


def _three(folder: Path, *options: str, unit: int = 65536) -> Path:
    path = written(folder / "disk.qcow2", "16M", *options, unit=unit)
    qemu_img("snapshot", "-c", "clean install", path)
    qemu_io(path, f"write -q -P 0x21 {2 * unit} {7 * unit}", f"discard -q {15 * unit} {unit}")
    qemu_img("snapshot", "-c", "before-update", path)
    qemu_io(path, f"write -q -P 0x22 {6 * unit} {unit}", f"write -q -z {30 * unit} {4 * unit}")
    qemu_img("snapshot", "-c", "after-update", path)
    qemu_io(path, f"write -q -P 0x23 {20 * unit} {3 * unit}")
    return path


theme.add("snapshots-three", _three)
theme.add("snapshots-v2", lambda folder: _three(folder, "compat=0.10"), "v2")
theme.add("snapshots-512", lambda folder: _three(folder, "cluster_size=512", unit=4096))
theme.add("snapshots-2m", lambda folder: _three(folder, "cluster_size=2M", unit=65536))


@theme.variant("snapshots-middle-deleted")
def middle_deleted(folder: Path) -> Path:
    path = _three(folder)
    qemu_img("snapshot", "-d", "before-update", path)
    return path


@theme.variant("snapshots-all-deleted")
def all_deleted(folder: Path) -> Path:
    path = _three(folder)
    for name in ("clean install", "after-update", "before-update"):
        qemu_img("snapshot", "-d", name, path)
    return path


@theme.variant("snapshots-duplicate-names")
def duplicate_names(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "4M")
    for pattern in (1, 2, 3):
        qemu_io(path, f"write -q -P {pattern} {pattern * 65536} 100k")
        qemu_img("snapshot", "-c", "same", path)
    qemu_img("snapshot", "-c", "2", path)  # a name that is another one's ID
    return path


@theme.variant("snapshots-hostile-names", "hostile")
def hostile_names(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "1M")
    for index, name in enumerate(HOSTILE_NAMES):
        qemu_io(path, f"write -q -P {index + 1} {index * 65536} 64k")
        qemu_img("snapshot", "-c", name, path)
    return path


@theme.variant("snapshots-resized")
def resized(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "1M")
    qemu_io(path, "write -q -P 1 0 1M")
    qemu_img("snapshot", "-c", "small", path)
    qemu_img("resize", "-q", path, "9M")
    qemu_io(path, "write -q -P 2 8M 1M")
    qemu_img("snapshot", "-c", "large", path)
    qemu_img("resize", "-q", "--shrink", path, "3M")
    qemu_io(path, "write -q -P 3 2M 64k")
    return path


@theme.variant("snapshots-applied")
def applied(folder: Path) -> Path:
    path = _three(folder)
    qemu_img("snapshot", "-a", "clean install", path)
    qemu_io(path, "write -q -P 0x44 3M 200k")
    return path


@theme.variant("snapshots-twenty")
def twenty(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "2M", "cluster_size=4k")
    for index in range(20):
        qemu_io(path, f"write -q -P {index + 1} {index * 20480} 40k")
        qemu_img("snapshot", "-c", f"daily-{index:02}", path)
    return path


@theme.variant("snapshots-refcount-saturated")
def saturated(folder: Path) -> Path:
    """2-bit refcounts at their largest value."""
    path = create(folder / "disk.qcow2", "1M", "refcount_bits=2", "cluster_size=4k")
    qemu_io(path, "write -q -P 9 0 64k")
    qemu_img("snapshot", "-c", "one", path)
    qemu_img("snapshot", "-c", "two", path)
    return path


def _patch_snapshot(path: Path, fields: dict[int, tuple[str, int]]) -> None:
    """Overwrite fields of the first snapshot table entry (offset in the entry: format, value)."""
    with path.open("r+b") as file:
        file.seek(64)
        (table,) = struct.unpack(">Q", file.read(8))
        for offset, (layout, value) in fields.items():
            file.seek(table + offset)
            file.write(struct.pack(layout, value))


@theme.variant("snapshots-vm-state", "poked")
def vm_state(folder: Path) -> Path:
    """A snapshot with saved RAM; qemu-img writes the state but not its size: set here."""
    path = create(folder / "disk.qcow2", "4M", "cluster_size=4k")
    qemu_io(path, "write -q -P 1 0 200k", "write -q -b -P 0x7e 0 300k")
    qemu_img("snapshot", "-c", "running", path)
    # vm_clock_nsec, vm_state_size and the 64-bit size in the extra data (spec, "Snapshots").
    clock = ((27 * 3600 + 4 * 60 + 5) * 1000 + 678) * 1_000_000
    _patch_snapshot(path, {24: (">Q", clock), 32: (">I", 307_200), 40: (">Q", 307_200)})
    qemu_io(path, "write -q -P 2 100k 100k")
    return path


@theme.variant("snapshots-no-icount", "poked")
def no_icount(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "1M")
    qemu_img("snapshot", "-c", "no-icount", path)
    _patch_snapshot(path, {40 + 16: (">Q", (1 << 64) - 1)})
    return path


@theme.variant("snapshots-of-lazy-image")
def lazy(folder: Path) -> Path:
    return _three(folder, "lazy_refcounts=on", "cluster_size=16k", unit=16384)


@theme.variant("snapshots-of-preallocated", "preallocated")
def preallocated(folder: Path) -> Path:
    path = create(folder / "disk.qcow2", "2M", "preallocation=metadata")
    qemu_io(path, "write -q -P 1 300k 100k")
    qemu_img("snapshot", "-c", "one", path)
    qemu_io(path, "write -q -P 2 350k 10k", "discard -q 1M 64k")
    return path


def _wide(folder: Path, bits: int) -> Path:
    return _three(folder, f"refcount_bits={bits}", "cluster_size=8k", unit=8192)


for _bits in (4, 64):
    theme.add(f"snapshots-refcount-{_bits}", partial(_wide, bits=_bits))
