"""Damaged header extensions: a wrong length, one that cannot be used, one that is there twice."""

from __future__ import annotations

from ...findings import Finding
from ...layout import problems as P
from ...layout.constants import (
    BITMAPS_VALID,
    EXT_BACKING_FORMAT,
    EXT_BITMAPS,
    EXT_CRYPTO,
    EXT_DATA_FILE,
    EXT_END,
    EXT_FEATURE_NAMES,
    EXTENSION_NAMES,
    MAX_BACKING_FORMAT,
)
from ...layout.extensions import HeaderExtension, encode_extensions, parse_extensions
from ...layout.features import FEATURE_RECORD
from .header import with_field
from .mends import HeaderMend, Mend, Sight
from .remedy import Option

_FIXED = {EXT_BITMAPS: 24, EXT_CRYPTO: 16}
#: What is lost with an extension, where more is lost than names.
_LOST = {
    EXT_BITMAPS: "All bitmaps: the next backup has to be a full one.",
    EXT_CRYPTO: "The place of the encryption header: no guest data can be read without it.",
    EXT_DATA_FILE: "The name of the external data file, which holds all guest data.",
    EXT_BACKING_FORMAT: "The format of the backing file; it can be stated again by a rebase.",
}


def find_extensions(sight: Sight) -> list[Mend]:
    """Remedies for extensions that overrun their area, cannot be used or contradict each other."""
    overrun = sight.problem(P.EXTENSION_OVERRUN)
    if overrun is not None:
        return [_overrun(sight, overrun)]
    invalid = sight.problem(P.EXTENSION_INVALID)
    if invalid is not None:
        return [_invalid(sight, invalid)]
    double = sight.problem(P.EXTENSION_DUPLICATE)
    return [] if double is None else [_double(sight, double)]


def _area(sight: Sight) -> tuple[bytes, int, int, tuple[HeaderExtension, ...]]:
    """The header cluster, where its extensions start and end, and those that can be told."""
    header = sight.header
    start, end = sight.image.header.extension_area
    return header, start, end, parse_extensions(header[start:end], start).extensions


def _overrun(sight: Sight, problem: Finding) -> Mend:
    header, start, end, good = _area(sight)
    at = max((e.offset + 8 + (len(e.data) + 7 & ~7) for e in good), default=start)
    magic = int.from_bytes(header[at : at + 4], "big")
    ways: dict[Option, bytes] = {}
    mended = _relengthened(header, at, end)
    if mended is not None:
        ways[_length_option(magic, len(mended))] = (
            header[: at + 4] + len(mended).to_bytes(4, "big") + header[at + 8 :]
        )
    drop = _drop_option(magic, "Cut the list of extensions off in front of it")
    ways[drop] = _dropped(sight, header[:at] + bytes(8) + header[at + 8 :], magic)
    return HeaderMend("extension-overrun", problem, ways, _default(ways, magic))


def _invalid(sight: Sight, problem: Finding) -> Mend:
    header, start, end, good = _area(sight)
    wrong = next(e for e in good if _is_wrong(e))
    ways: dict[Option, bytes] = {}
    mended = _relengthened(header, wrong.offset, end)
    if mended is not None:
        length = len(mended).to_bytes(4, "big")
        ways[_length_option(wrong.magic, len(mended))] = (
            header[: wrong.offset + 4] + length + header[wrong.offset + 8 :]
        )
    others = [(e.magic, e.data) for e in good if e is not wrong]
    drop = _drop_option(wrong.magic, "Remove it")
    ways[drop] = _dropped(sight, _with_area(header, start, end, others), wrong.magic)
    return HeaderMend("extension-invalid", problem, ways, _default(ways, wrong.magic))


def _double(sight: Sight, problem: Finding) -> Mend:
    header, start, end, good = _area(sight)
    first = {e.magic: e for e in reversed(good)}
    last = {e.magic: e for e in good}
    same = all(e.data == first[e.magic].data for e in good if e.known)
    ways: dict[Option, bytes] = {}
    for key, kept, which in (("first", first, "first"), ("last", last, "last")):
        option = Option(
            key,
            f"Keep the {which} one of each kind",
            f"What the {which} one says.",
            "" if same else "What the others say.",
            "The header.",
            certain=same,
            evidence=("They say the same.",) if same else (),
        )
        chosen = [(e.magic, e.data) for e in good if not e.known or kept[e.magic] is e]
        ways[option] = _with_area(header, start, end, chosen)
    return HeaderMend("extension-duplicate", problem, ways, "first" if same else None)


def _is_wrong(extension: HeaderExtension) -> bool:
    fixed = _FIXED.get(extension.magic)
    if fixed is not None:
        return len(extension.data) != fixed
    return extension.magic == EXT_BACKING_FORMAT and len(extension.data) > MAX_BACKING_FORMAT


def _relengthened(header: bytes, at: int, end: int) -> bytes | None:
    """The data of the extension at ``at`` by the length with which the list goes on well."""
    magic = int.from_bytes(header[at : at + 4], "big")
    if magic not in EXTENSION_NAMES:
        return None
    for padded in range(8, end - at - 8, 8):
        data = header[at + 8 : at + 8 + padded]
        fixed = _FIXED.get(magic)
        if fixed is not None and padded != fixed:
            continue
        if magic == EXT_FEATURE_NAMES and padded % FEATURE_RECORD:
            continue
        rest = parse_extensions(header[at + 8 + padded : end], at + 8 + padded)
        ends = rest.extensions[-1] if rest.extensions else None
        close = at + 8 + padded if ends is None else ends.offset + 8 + (len(ends.data) + 7 & ~7)
        closed = header[close : close + 8] == bytes(8) or close >= end
        if rest.problems or not closed or not all(e.known for e in rest.extensions):
            continue
        if fixed is not None or magic == EXT_FEATURE_NAMES:
            return data
        text = data.rstrip(b"\0")
        if text and len(data) - len(text) < 8 and b"\0" not in text:
            return text
    return None


def _with_area(header: bytes, start: int, end: int, kept: list[tuple[int, bytes]]) -> bytes:
    """``header`` with other extensions; a backing file's name stays where it is."""
    area = encode_extensions(kept)
    return header[:start] + area[: end - start].ljust(end - start, b"\0") + header[end:]


def _dropped(sight: Sight, header: bytes, magic: int) -> bytes:
    """``header`` without what goes with an extension that is gone."""
    if magic != EXT_BITMAPS:
        return header
    bits = sight.image.header.autoclear_features & ~BITMAPS_VALID
    return with_field(header, "autoclear_features", bits)


def _length_option(magic: int, length: int) -> Option:
    return Option(
        "length",
        f"Take the {EXTENSION_NAMES[magic]} for {length} bytes long",
        "The extension, and those behind it.",
        "",
        "The header.",
        evidence=("With this length the list goes on and ends as it must.",),
    )


def _drop_option(magic: int, title: str) -> Option:
    name = EXTENSION_NAMES.get(magic, "an unknown extension") if magic != EXT_END else "it"
    return Option(
        "drop",
        f"{title} ({name})",
        "Everything else in the header.",
        _LOST.get(magic, "" if magic == EXT_FEATURE_NAMES else "What the extension said."),
        "The header.",
        certain=magic == EXT_FEATURE_NAMES,
    )


def _default(ways: dict[Option, bytes], magic: int) -> str | None:
    """The first way that loses nothing; bitmaps that cannot be used at all are not lost by it."""
    return next((o.key for o in ways if o.lossless), "drop" if magic == EXT_BITMAPS else None)
