"""Images of the acceptance stories that several tests begin with."""

from __future__ import annotations

from pathlib import Path

from tests.oracle.catalogue.base import create, overlay

from .qemu import guest_bytes, qemu_io


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
