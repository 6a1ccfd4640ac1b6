"""Images of the acceptance stories that several tests begin with."""

from __future__ import annotations

from pathlib import Path

from tests.oracle.catalogue.base import create, overlay

from .qemu import guest_bytes, qemu_img, qemu_io


def moved_base(folder: Path) -> tuple[Path, Path, bytes]:
    """Story S8: (vm, moved base, what the disk held before); an impostor lies beside the base."""
    base = create(folder / "base.qcow2", "64M")
    qemu_io(base, "write -q -P 0x11 0 4M", "write -q -P 0x22 32M 1M")
    vm = overlay(folder / "vm.qcow2", "base.qcow2", "qcow2")
    qemu_io(vm, "write -q -P 0x33 8M 2M")
    golden = guest_bytes(vm)
    (folder / "moved").mkdir()
    moved = base.rename(folder / "moved" / "golden-base.qcow2")
    create(folder / "moved" / "impostor.qcow2", "64M")
    return vm, moved, golden


def three_snapshots(folder: Path) -> Path:
    """Story S9: clean-install holds 30 MiB alone, before-update 10 MiB, after-update next to
    nothing; 5 MiB at 100 MiB came since."""
    path = create(folder / "s9.qcow2", "256M")
    qemu_io(path, "write -q -P 1 0 40M")
    qemu_img("snapshot", "-c", "clean-install", path)
    qemu_io(path, "write -q -P 2 0 30M", "write -q -P 3 60M 10M")
    qemu_img("snapshot", "-c", "before-update", path)
    qemu_io(path, "write -q -P 4 60M 10M")
    qemu_img("snapshot", "-c", "after-update", path)
    qemu_io(path, "write -q -P 5 100M 5M")
    return path
