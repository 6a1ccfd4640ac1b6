"""A damaged header: fields that contradict each other or the tables, one of them put right.

A field is put right by trying: of all values it could have, the one with which everything that the
image refers to is found, counted and without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...edit.mending import Mending
from ...findings import Finding, Severity, kind
from ...inspect.check import check
from ...inspect.guest_end import mapped_end
from ...layout import problems as P
from ...layout.constants import (
    COMPRESSION_TYPE,
    CRYPT_LUKS,
    CRYPT_NONE,
    DATA_FILE_RAW,
    EXTENDED_L2,
    EXTERNAL_DATA_FILE,
    KNOWN_INCOMPATIBLE,
)
from ...layout.header import Header, header_field
from ...text import size as size_of
from ...text import size_and_bytes
from .asked import parse_size
from .mends import HeaderMend, Mend, Sight
from .remedy import Option

SIZE_SMALL = kind(
    "QCOW-SIZE-SMALL",
    Severity.CORRUPTION,
    "disk smaller than what is mapped",
    "The virtual size ends before guest clusters that the tables map: the size in the header was "
    "damaged, or a program made the disk smaller without giving up what lies behind its end.",
    "A guest does not see the end of its disk.",
    "Say how large the disk is (--choice size=SIZE); until then let no program write to the image.",
)

_FATAL = (
    P.HEADER_VERSION,
    P.CLUSTER_SIZE,
    P.HEADER_LENGTH,
    P.REFCOUNT_WIDTH,
    P.SUBCLUSTERS,
    P.FEATURE_UNKNOWN,
    P.COMPRESSION,
    P.ENCRYPTION_METHOD,
    P.DATA_FILE_NAME,
    P.DATA_FILE_CONTRADICTION,
    P.L1_INVALID,
    P.SIZE_TOO_BIG,
)
#: Bits whose place in an image without them is told by nothing else: tried one by one.
_TRIED = (COMPRESSION_TYPE, EXTENDED_L2, EXTERNAL_DATA_FILE)


class _Try(NamedTuple):
    """One value of one field."""

    key: str
    title: str
    header: bytes


class _Result(NamedTuple):
    """``score``: (errors, leaks) of a check, and extensions that can be read, times -1."""

    tried: _Try
    score: tuple[int, int, int]


def with_field(header: bytes, name: str, value: int) -> bytes:
    """``header`` with another value in the field called ``name`` in the spec."""
    field = header_field(name)
    end = field.offset + field.size
    return header[: field.offset] + value.to_bytes(field.size, "big") + header[end:]


def find_header(sight: Sight) -> list[Mend]:
    """Remedies for fields of the header that are impossible, and for a size that is too small."""
    problem = sight.problem(*_FATAL)
    if problem is None:
        return _size(sight)
    sized = None
    if problem.kind in (P.L1_INVALID, P.SIZE_TOO_BIG):
        sized = _asked_size(sight, problem)
        if sized is not None and "size" in sight.answers:
            return [sized]
    results = [found for each in _tries(sight, problem) if (found := _judged(sight, problem, each))]
    first: dict[bytes, _Result] = {}
    for result in results:
        first.setdefault(result.tried.header, result)
    results = list(first.values())
    results.sort(key=lambda result: result.score)
    made: list[Mend] = [_mend(sight, problem, results[:8])] if results else []
    return made if sized is None else [*made, sized]


def _mend(sight: Sight, problem: Finding, results: list[_Result]) -> Mend:
    best = results[0].score
    # Where nothing is compressed, it is all the same which compression type the image says.
    alone = len(results) == 1 or results[1].score > best or problem.kind is P.COMPRESSION
    certain = best[0] == 0 and alone and not _named(sight, problem)
    ways = {}
    for tried, (errors, leaks, _) in results:
        found = f"{errors} errors and {leaks} leaked clusters" if errors or leaks else "no error"
        ways[
            Option(
                key=tried.key,
                title=tried.title,
                keeps="Every table and all guest data that they map.",
                loses="" if not errors else "What the errors that remain may hide.",
                writes="The header.",
                certain=certain and tried is results[0].tried,
                evidence=(f"With it a check of the whole image finds {found}.",),
            )
        ] = tried.header
    return HeaderMend(
        problem.kind.code.removeprefix("QCOW-").lower(),
        problem,
        ways,
        results[0].tried.key if certain else None,
    )


def _named(sight: Sight, problem: Finding) -> bool:
    """Whether the image itself names the unknown feature: then it is a newer program's, no flaw."""
    if problem.kind is not P.FEATURE_UNKNOWN:
        return False
    unknown = sight.image.header.incompatible_features & ~KNOWN_INCOMPATIBLE
    return any(n.type == 0 and unknown >> n.bit & 1 for n in sight.image.feature_names)


def _judged(sight: Sight, problem: Finding, tried: _Try) -> _Result | None:
    """What a check says of the image with that value; None when it cannot be used at all."""
    image = sight.tried(tried.header)
    if image is None or image.geometry is None or image.unusable is not None:
        return None
    # A wrong compression type shows only where something is unpacked.
    result = check(image, cancel=sight.cancel, decode=problem.kind is P.COMPRESSION)
    errors = result.corruptions + result.extra_corruptions + result.check_errors
    known = sum(extension.known for extension in image.extensions)
    return _Result(tried, (errors, result.leaks + result.extra_leaks, -known))


def _tries(sight: Sight, problem: Finding) -> Iterator[_Try]:
    header, fields = sight.header, sight.image.header
    if problem.kind is P.HEADER_VERSION:
        yield _Try("3", "Take the image for version 3", with_field(header, "version", 3))
        if int.from_bytes(header[100:104], "big") not in (104, 112):
            yield _Try("2", "Take the image for version 2", with_field(header, "version", 2))
    elif problem.kind in (P.CLUSTER_SIZE, P.SUBCLUSTERS):
        for bits in range(9, 22):
            again = sight.image.storage.read(0, 1 << bits).ljust(1 << bits, b"\0")
            made = with_field(again, "cluster_bits", bits)
            yield _Try(str(1 << bits), f"Take the clusters for {size_of(1 << bits)}", made)
        if problem.kind is P.SUBCLUSTERS:
            yield _bits(header, fields, fields.incompatible_features & ~EXTENDED_L2, "plain")
    elif problem.kind is P.HEADER_LENGTH:
        for length in (104, 112):
            made = with_field(header, "header_length", length)
            yield _Try(str(length), f"Take the header for {length} bytes", made)
    elif problem.kind is P.REFCOUNT_WIDTH:
        for order in range(7):
            made = with_field(header, "refcount_order", order)
            yield _Try(str(1 << order), f"Take refcounts for {1 << order} bits wide", made)
    elif problem.kind is P.ENCRYPTION_METHOD:
        for method, name in ((CRYPT_NONE, "none"), (CRYPT_LUKS, "luks")):
            made = with_field(header, "crypt_method", method)
            yield _Try(name, f"Take the encryption for {name}", made)
    elif problem.kind is P.L1_INVALID:
        yield from _l1_tries(sight)
    elif problem.kind is not P.SIZE_TOO_BIG:
        yield from _bit_tries(header, fields)


def _bit_tries(header: bytes, fields: Header) -> Iterator[_Try]:
    """Feature bits: without the unknown ones, and with each that says how tables look turned."""
    if fields.compression_type == 1 and not fields.has_compression_type_bit:
        yield _Try(
            "zlib",
            "Take the compression type for zlib",
            with_field(header, "compression_type", 0),
        )
    known = fields.incompatible_features & KNOWN_INCOMPATIBLE
    seen = {fields.incompatible_features}
    for bits, key in ((known, "known"), *((known ^ bit, f"turn-{bit}") for bit in _TRIED)):
        if bits not in seen:
            seen.add(bits)
            yield _bits(header, fields, bits, key)
    if fields.header_length > 104:
        for type_, name in ((0, "zlib"), (1, "zstd")):
            if type_ != fields.compression_type:
                made = with_field(header, "compression_type", type_)
                yield _Try(name, f"Take the compression type for {name}", made)
    if fields.autoclear_features & DATA_FILE_RAW:
        made = with_field(header, "autoclear_features", fields.autoclear_features & ~DATA_FILE_RAW)
        yield _Try("not-raw", "Clear the flag for a raw external data file", made)


def _bits(header: bytes, fields: Header, bits: int, key: str) -> _Try:
    cleared = fields.incompatible_features & ~bits
    added = bits & ~fields.incompatible_features
    parts = [f"clear {cleared:#x}"] * bool(cleared) + [f"set {added:#x}"] * bool(added)
    title = f"Change the incompatible feature bits: {', '.join(parts)}"
    return _Try(key, title, with_field(header, "incompatible_features", bits))


def _l1_tries(sight: Sight) -> Iterator[_Try]:
    """Other sizes and places of the active L1 table."""
    from ...inspect.lost import l1_candidates

    fields, geometry = sight.image.header, sight.image.geometry
    if geometry is None:
        return
    needed = geometry.l1_entries(fields.size)
    if needed * 8 <= 32 << 20:
        made = with_field(sight.header, "l1_size", needed)
        yield _Try("l1-size", f"Take the L1 table for {needed} entries, as the disk needs", made)
        for offset in l1_candidates(sight.image.storage, geometry, needed):
            made = with_field(sight.header, "l1_table_offset", offset)
            made = with_field(made, "l1_size", max(fields.l1_size, needed) if needed else 0)
            if max(fields.l1_size, needed) * 8 > 32 << 20:
                made = with_field(made, "l1_size", needed)
            yield _Try(f"l1-{offset:#x}", f"Take the table at {offset:#x} for the L1 table", made)


# ---- the size


class SizeMend(Mend):
    """The virtual size, which a person has to say; ``most`` is what the L1 table can map."""

    id = "size"

    def __init__(
        self, header: bytes, finding: Finding, options: tuple[Option, ...], most: int
    ) -> None:
        self.finding = finding
        self.options = options
        self._header = header
        self._most = most

    def option(self, key: str) -> Option:
        """``key`` is a size: one that is proposed, or any other (``2G``)."""
        size = parse_size(key, 512, self._most)
        found = next((option for option in self.options if option.key == str(size)), None)
        return found or _size_option(size, "as you say")

    def mend(self, mending: Mending, option: Option) -> Mending:
        return Mending(with_field(self._header, "size", int(option.key)), mending.tables)


def _size_option(size: int, why: str) -> Option:
    return Option(
        key=str(size),
        title=f"Make the disk {size_and_bytes(size)} large, {why}",
        keeps="Every mapping and all guest data.",
        loses="",
        writes="The header.",
        certain=False,
    )


def _size(sight: Sight) -> list[Mend]:
    """Guest clusters behind the end of the disk that cannot be VM state."""
    image, geometry = sight.image, sight.image.geometry
    if geometry is None or image.unusable is not None:
        return []
    end = mapped_end(image, any(snapshot.vm_state_size for snapshot in image.snapshots))
    clusters = geometry.clusters(image.header.size)
    if end <= clusters:
        return []
    finding = Finding(
        SIZE_SMALL,
        f"The disk has {size_and_bytes(image.header.size)}, but the tables map guest clusters up "
        f"to {end << geometry.cluster_bits:#x}.",
        structure="header",
    )
    return [_size_mend(sight, finding, end << geometry.cluster_bits)]


def _asked_size(sight: Sight, problem: Finding) -> Mend | None:
    """Where the L1 table is too short for the size: the size may be what is wrong."""
    geometry, header = sight.image.geometry, sight.image.header
    if geometry is None or not header.l1_size or header.size <= header.l1_size * geometry.l2_span:
        return None
    return _size_mend(sight, problem, 0)


def _size_mend(sight: Sight, finding: Finding, mapped: int) -> Mend:
    geometry, image = sight.image.geometry, sight.image
    assert geometry is not None
    most = image.header.l1_size * geometry.l2_span
    proposed: dict[int, str] = {}
    for snapshot in image.snapshots:
        if snapshot.disk_size is not None and mapped <= snapshot.disk_size <= most:
            proposed.setdefault(snapshot.disk_size, "as a snapshot records it")
    if mapped:
        proposed.setdefault(mapped, "up to the last cluster that is mapped")
    proposed.setdefault(most, "all that the L1 table can map")
    options = tuple(_size_option(size, why) for size, why in proposed.items() if size % 512 == 0)
    return SizeMend(sight.header, finding, options, most)
