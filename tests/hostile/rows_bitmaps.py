"""B01..B18: persistent bitmaps."""

from __future__ import annotations

from .bases import L1
from .ext_area import BITMAPS as BITMAPS_EXTENSION
from .ext_area import find_extension
from .model import Build, Damage, Step, on, u64

_AUTOCLEAR = 88
#: Fields of the header extension.
_COUNT, _RESERVED, _DIRECTORY_SIZE, _DIRECTORY_OFFSET = 0, 4, 8, 16
#: Fields of an entry of the directory.
_TABLE_OFFSET, _TABLE_SIZE, _FLAGS, _TYPE = 0, 8, 12, 16
_GRANULARITY, _NAME_SIZE, _EXTRA_SIZE = 17, 18, 20


def _extension(layout: str, field: int, value: int) -> Step:
    """Set a field of the bitmaps extension."""

    def step(damage: Damage) -> None:
        damage.set(layout, find_extension(damage, BITMAPS_EXTENSION) + field, value)

    return step


def _stated_length(length: int) -> Step:
    """Let the bitmaps extension say that it has that many bytes."""

    def step(damage: Damage) -> None:
        damage.set("I", find_extension(damage, BITMAPS_EXTENSION) - 4, length)

    return step


def _entry(layout: str, field: int, value: int) -> Step:
    """Set a field of the directory's first entry."""

    def step(damage: Damage) -> None:
        extension = find_extension(damage, BITMAPS_EXTENSION)
        damage.set(layout, damage.get("Q", extension + _DIRECTORY_OFFSET) + field, value)

    return step


BITMAPS: dict[str, Build] = {
    "B01": on("bitmaps", _extension("I", _COUNT, 0)),
    "B02": on("bitmaps", _extension("I", _COUNT, 0xFFFFFFFF)),
    "B03": on("bitmaps", _extension("I", _RESERVED, 1)),
    "B04": on("bitmaps", _extension("Q", _DIRECTORY_SIZE, 1 << 40)),
    "B05": on("bitmaps", _extension("Q", _DIRECTORY_SIZE, 0)),
    "B06": on("bitmaps", _extension("Q", _DIRECTORY_OFFSET, 0x200)),
    "B07": on("bitmaps", _extension("Q", _DIRECTORY_OFFSET, 1 << 40)),
    "B08": on("bitmaps", _stated_length(16)),
    "B09": on("bitmaps", _entry("I", _TABLE_SIZE, 0xFFFFFFFF)),
    "B10": on("bitmaps", _entry("B", _GRANULARITY, 63)),
    # The name becomes extra data, so that the entry keeps its length.
    "B11": on("bitmaps", _entry("H", _NAME_SIZE, 0), _entry("I", _EXTRA_SIZE, 8)),
    "B12": on("bitmaps", _entry("H", _NAME_SIZE, 0xFFFF)),
    "B13": on("bitmaps", _entry("I", _EXTRA_SIZE, 8)),
    "B14": on("bitmaps", _entry("I", _FLAGS, 0xFFFFFFFC)),
    "B15": on("bitmaps", _entry("B", _TYPE, 9)),
    "B16": on("bitmaps", _entry("Q", _TABLE_OFFSET, L1)),
    "B17": on("bitmaps", _entry("I", _FLAGS, 3)),
    "B18": on("bitmaps", u64(_AUTOCLEAR, 0)),
}
