"""S01..S19: the snapshot table."""

from __future__ import annotations

from .bases import L1
from .model import Build, Damage, Step, on, u32, u64

_COUNT, _TABLE_OFFSET = 60, 64
#: Fields of an entry.  QEMU's entries have 24 bytes of extra data; with an ID of one byte and a
#: name of three that makes 72 bytes.
_L1_OFFSET, _L1_SIZE, _ID_LENGTH, _NAME_LENGTH = 0, 8, 12, 14
_VM_STATE_SIZE, _EXTRA_SIZE, _VM_STATE_LARGE, _DISK_SIZE, _ID = 32, 36, 40, 48, 64
_ENTRY = 72


def _entry(index: int, layout: str, field: int, value: int) -> Step:
    """Set a field of the entry with that index."""

    def step(damage: Damage) -> None:
        damage.set(layout, damage.get("Q", _TABLE_OFFSET) + index * _ENTRY + field, value)

    return step


def _label(index: int, identity: bytes, name: bytes) -> Step:
    """Give the last entry (or one with labels no longer than before) an ID and a name."""

    def step(damage: Damage) -> None:
        at = damage.get("Q", _TABLE_OFFSET) + index * _ENTRY
        damage.set("H", at + _ID_LENGTH, len(identity))
        damage.set("H", at + _NAME_LENGTH, len(name))
        damage.put(at + _ID, identity + name)

    return step


SNAPSHOTS: dict[str, Build] = {
    "S01": on("snapshots", u32(_COUNT, 0xFFFFFFFF)),
    "S02": on("snapshots", u32(_COUNT, 65537)),
    "S03": on("snapshots", u64(_TABLE_OFFSET, 0xE0200)),
    "S04": on("snapshots", u64(_TABLE_OFFSET, 1 << 63)),
    "S05": on("snapshots", u64(_TABLE_OFFSET, 0)),
    "S06": on("snapshots", u32(_COUNT, 3)),
    "S07": on("snapshots", _entry(0, "Q", _L1_OFFSET, 0x400200)),
    "S08": on("snapshots", _entry(0, "I", _L1_SIZE, 0x10000000)),
    "S09": on("snapshots", _entry(0, "I", _EXTRA_SIZE, 0xFFFFFFFF)),
    "S10": on("snapshots", _entry(0, "I", _EXTRA_SIZE, 1032)),
    "S11": on(
        "snapshots", _entry(0, "H", _ID_LENGTH, 0xFFFF), _entry(0, "H", _NAME_LENGTH, 0xFFFF)
    ),
    "S12": on("snapshots", _entry(0, "Q", _L1_OFFSET, L1)),
    "S13": on("snapshots", _entry(0, "Q", _DISK_SIZE, 1 << 62)),
    "S14": on("snapshots", _entry(0, "Q", _VM_STATE_LARGE, 1 << 62)),
    "S15": on("snapshots", _label(1, b"2", b"\x1b]52;c;cm0gLXJm\x07\x1b[2Jtwo")),
    "S16": on("snapshots", _entry(0, "Q", _L1_OFFSET, 1 << 40)),
    "S17": on("snapshots", _entry(0, "I", _L1_SIZE, 0)),
    "S18": on("snapshots", _entry(0, "I", _EXTRA_SIZE, 0)),
    "S19": on("snapshots", _label(1, b"1", b"one")),
}
