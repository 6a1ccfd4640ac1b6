"""Colours and glyphs of the map, for people who see colours differently and for few colours.

Hues start from the Okabe-Ito set; tests check that every two classes stay apart for normal vision
and for the three kinds of colour blindness, in the dark and in the light set.  Brightness says how
much of a cell is in use, in four steps; damage is never dimmed and always has its glyph.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from qcow.inspect.classes import ClusterClass

RGB = tuple[int, int, int]

#: Steps of brightness.
FADES: Final = 4
_FADE_WEIGHT: Final = (0.40, 0.60, 0.80, 1.0)
_DIMMED_WEIGHT: Final = 0.16


class Ink(NamedTuple):
    """How one kind of cell looks.

    ``rgb`` for true colour, ``ansi256`` and ``ansi16`` are palette numbers, ``glyph`` one ASCII
    character for where there is no colour.  ``mark`` is a character that is drawn in colour too.
    """

    rgb: RGB
    ansi256: int
    ansi16: int
    glyph: str
    mark: str = ""


class MapTheme(NamedTuple):
    """The colours a map is drawn with; ``colours`` is indexed by class.

    It is hashable: what is made of it (inks, styles) is kept by it.
    """

    dark: bool
    colours: tuple[RGB, ...]
    cursor: RGB


_C = ClusterClass

#: One character each, all different, all ASCII.
GLYPHS: Final[dict[ClusterClass, str]] = {
    _C.UNREAD: "?", _C.FREE: ".", _C.BEYOND_END: "~", _C.ZERO_ALLOCATED: "0", _C.DATA: "#",
    _C.COMPRESSED: "c", _C.SHARED: "s", _C.VM_STATE: "v", _C.BITMAP: "b", _C.SNAPSHOT_L1: "t",
    _C.SNAPSHOT_TABLE: "T", _C.LUKS_HEADER: "K", _C.REFCOUNT_BLOCK: "r", _C.REFCOUNT_TABLE: "R",
    _C.L2: "2", _C.L1: "1", _C.HEADER: "H", _C.LEAKED: "L", _C.CORRUPT: "!", _C.OVERLAPPING: "X",
}  # fmt: skip
#: What data looks like without colour where less than half of the cell is in use.
SPARSE_DATA_GLYPH: Final = "+"
#: Drawn over what was not read yet.
HATCH: Final = "╱"

_DARK: Final[dict[ClusterClass, int]] = {
    _C.UNREAD: 0x26344F, _C.FREE: 0x1D2027, _C.BEYOND_END: 0x3E1F00, _C.ZERO_ALLOCATED: 0x4C5366,
    _C.DATA: 0x0072B2, _C.COMPRESSED: 0x56B4E9, _C.SHARED: 0x009E73, _C.VM_STATE: 0x7C2A8E,
    _C.BITMAP: 0x87D182, _C.SNAPSHOT_L1: 0xFFBFC0, _C.SNAPSHOT_TABLE: 0x74E3FF,
    _C.LUKS_HEADER: 0x925345, _C.REFCOUNT_BLOCK: 0x8716F8, _C.REFCOUNT_TABLE: 0x9977FF,
    _C.L2: 0xC7E202, _C.L1: 0xFFEC9A, _C.HEADER: 0xFFFFFF, _C.LEAKED: 0xE69F00,
    _C.CORRUPT: 0xED4B0E, _C.OVERLAPPING: 0xFF6AAC,
}  # fmt: skip
_LIGHT: Final[dict[ClusterClass, int]] = {
    _C.UNREAD: 0xCBD8EC, _C.FREE: 0xE9ECF1, _C.BEYOND_END: 0xF5DCC5, _C.ZERO_ALLOCATED: 0xB5B8B0,
    _C.DATA: 0x0072B2, _C.COMPRESSED: 0x56B4E9, _C.SHARED: 0x009E73, _C.VM_STATE: 0x743263,
    _C.BITMAP: 0x52F185, _C.SNAPSHOT_L1: 0x8B86BB, _C.SNAPSHOT_TABLE: 0x40006B,
    _C.LUKS_HEADER: 0x766271, _C.REFCOUNT_BLOCK: 0x0F6FFF, _C.REFCOUNT_TABLE: 0x0505CE,
    _C.L2: 0xD7D51B, _C.L1: 0x79B181, _C.HEADER: 0x571000, _C.LEAKED: 0xE69F00,
    _C.CORRUPT: 0xD65F00, _C.OVERLAPPING: 0xB9000C,
}  # fmt: skip
#: Where the nearest of 256 colours is a grey, the nearest that has the hue.
_ANSI256: Final = {0x3E1F00: 52, 0x743263: 89}
_ANSI16_DARK: Final[dict[ClusterClass, int]] = {
    _C.UNREAD: 0, _C.FREE: 0, _C.BEYOND_END: 8, _C.ZERO_ALLOCATED: 7, _C.DATA: 4,
    _C.COMPRESSED: 14, _C.SHARED: 2, _C.VM_STATE: 5, _C.BITMAP: 10, _C.SNAPSHOT_L1: 13,
    _C.SNAPSHOT_TABLE: 13, _C.LUKS_HEADER: 6, _C.REFCOUNT_BLOCK: 12, _C.REFCOUNT_TABLE: 12,
    _C.L2: 3, _C.L1: 3, _C.HEADER: 15, _C.LEAKED: 11, _C.CORRUPT: 9, _C.OVERLAPPING: 1,
}  # fmt: skip
_ANSI16_LIGHT: Final = {
    **_ANSI16_DARK, _C.UNREAD: 15, _C.FREE: 15, _C.BEYOND_END: 7, _C.ZERO_ALLOCATED: 8,
    _C.HEADER: 0,
}  # fmt: skip
#: Classes that always have their full colour.
_NEVER_FADED: Final = frozenset(
    member for member in _C if member.is_problem or member <= _C.BEYOND_END
)

#: Dark to bright in lightness alone, after the cividis map: readable in every kind of vision.
_HEAT: Final = (
    0x1E3A78, 0x3B496C, 0x575D6D, 0x707173, 0x8A8779, 0xA59C74, 0xC3B369, 0xE1CC55, 0xFEE838,
)  # fmt: skip
_HEAT_ANSI16_DARK: Final = (4, 4, 6, 6, 2, 2, 3, 3, 11)
_HEAT_ANSI16_LIGHT: Final = (11, 3, 3, 2, 2, 6, 6, 4, 4)


def rgb_of(number: int) -> RGB:
    """``0xRRGGBB`` as a triple."""
    return number >> 16 & 255, number >> 8 & 255, number & 255


def mix(base: RGB, top: RGB, weight: float) -> RGB:
    """``weight`` of ``top`` over ``base``."""
    red, green, blue = (
        round(low + (high - low) * weight) for low, high in zip(base, top, strict=True)
    )
    return red, green, blue


def luminance(colour: RGB) -> float:
    """Relative luminance, 0.0 to 1.0 (WCAG 2)."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ink_on(colour: RGB) -> RGB:
    """Black or white, whichever reads better on ``colour``."""
    return (0, 0, 0) if luminance(colour) > 0.18 else (255, 255, 255)


_CUBE: Final = (0, 95, 135, 175, 215, 255)


@lru_cache(maxsize=4096)
def nearest_256(colour: RGB) -> int:
    """The nearest of the colours 16 to 255 of the xterm palette (cube and greys)."""
    known = _ANSI256.get(colour[0] << 16 | colour[1] << 8 | colour[2])
    if known is not None:
        return known

    def distance(other: Sequence[int]) -> int:
        return sum((a - b) ** 2 for a, b in zip(colour, other, strict=True))

    steps = [min(range(6), key=lambda step: abs(_CUBE[step] - part)) for part in colour]
    in_cube = distance([_CUBE[step] for step in steps])
    grey = min(23, max(0, round((sum(colour) / 3 - 8) / 10)))
    if distance([8 + 10 * grey] * 3) < in_cube:
        return 232 + grey
    return 16 + 36 * steps[0] + 6 * steps[1] + steps[2]


def default_theme(dark: bool) -> MapTheme:
    """The colours where a theme says nothing else."""
    numbers = _DARK if dark else _LIGHT
    colours = tuple(rgb_of(numbers[member]) for member in ClusterClass)
    return MapTheme(dark, colours, (255, 255, 255) if dark else (0, 0, 0))


def slug(member: ClusterClass) -> str:
    """The class in the name of a theme variable: ``map-`` and this."""
    return member.name.lower().replace("_", "-")


def class_ink(theme: MapTheme, member: ClusterClass, fade: int = FADES - 1) -> Ink:
    """The ink of a class; ``fade`` 0 (hardly used) to FADES - 1 (full)."""
    colour = theme.colours[member]
    if member not in _NEVER_FADED:
        colour = mix(theme.colours[_C.FREE], colour, _FADE_WEIGHT[fade])
    glyph = GLYPHS[member]
    if member is _C.DATA and fade < FADES // 2:
        glyph = SPARSE_DATA_GLYPH
    mark = GLYPHS[member] if member.is_problem else HATCH if member is _C.UNREAD else ""
    ansi16 = (_ANSI16_DARK if theme.dark else _ANSI16_LIGHT)[member]
    return Ink(colour, nearest_256(colour), ansi16, glyph, mark)


def dimmed_ink(theme: MapTheme, member: ClusterClass) -> Ink:
    """The ink of a class that a filter leaves out: a shade of what is there, never of damage."""
    if member.is_problem:
        return class_ink(theme, member)
    if member in _NEVER_FADED:
        return class_ink(theme, member)._replace(mark="")
    grey = (128, 128, 128)
    colour = mix(theme.colours[_C.FREE], mix(theme.colours[member], grey, 0.6), _DIMMED_WEIGHT)
    background = 0 if theme.dark else 15
    return Ink(colour, nearest_256(colour), background, " ")


def heat_ink(theme: MapTheme, position: float, glyph: str, fade: int = FADES - 1) -> Ink:
    """A step of the refcount ramp; ``position`` 0.0 (one reference) to 1.0 (very many)."""
    stops = _HEAT if theme.dark else _HEAT[::-1]
    place = min(max(position, 0.0), 1.0) * (len(stops) - 1)
    low = min(int(place), len(stops) - 2)
    colour = mix(rgb_of(stops[low]), rgb_of(stops[low + 1]), place - low)
    colour = mix(theme.colours[_C.FREE], colour, _FADE_WEIGHT[fade])
    ansi16 = (_HEAT_ANSI16_DARK if theme.dark else _HEAT_ANSI16_LIGHT)[round(place)]
    return Ink(colour, nearest_256(colour), ansi16, glyph)
