"""Each root cause: which finding it gives, what of the guest it hits, and QEMU's own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qcow.findings import Finding, Severity
from qcow.inspect.check import CheckResult
from qcow.layout.constants import OFFSET_MASK, OFLAG_COMPRESSED, OFLAG_COPIED
from qcowtui.samples.built import BuiltImage

from .agreement import ask_qemu, checked, codes, numbers_of
from .damage import damaged

pytestmark = pytest.mark.oracle

#: (state, first guest cluster, clusters)
Guest = tuple[str, int, int]
_ACTIVE, _FIRST = "active", "snapshot:1"


@dataclass(frozen=True)
class Case:
    """A fault, the finding it must give, and the guest clusters that must be named.

    Clusters 4 to 7 of the images are shared with the snapshot, 2 and 3 are the active state's own,
    10 and 11 allocated zeros, 13 to 19 compressed.  ``seen``: whether qemu-img notices it.
    """

    code: str
    shape: str
    harm: Callable[[BuiltImage], None]
    guests: list[Guest] = field(default_factory=list)
    seen: bool = True


def _entry(image: BuiltImage, guest: int) -> int:
    at = image.l2_offset(guest)
    assert at is not None
    return at


def _host(image: BuiltImage, guest: int) -> int:
    return (image.u64(_entry(image, guest)) & OFFSET_MASK) >> image.geometry.cluster_bits


def _change_entry(guest: int, change: Callable[[BuiltImage, int], int]) -> Callable[..., None]:
    def harm(image: BuiltImage) -> None:
        at = _entry(image, guest)
        image.set_u64(at, change(image, image.u64(at)))

    return harm


def _count(guest: int, value: int) -> Callable[[BuiltImage], None]:
    return lambda image: image.set_refcount(_host(image, guest), value)


def _l1(change: Callable[[BuiltImage, int], int], index: int = 0) -> Callable[[BuiltImage], None]:
    def harm(image: BuiltImage) -> None:
        at = image.l1_offset(index)
        image.set_u64(at, change(image, image.u64(at)))

    return harm


def _refcount_table(change: Callable[[BuiltImage, int], int]) -> Callable[[BuiltImage], None]:
    def harm(image: BuiltImage) -> None:
        at = image.header("refcount_table_offset")
        image.set_u64(at, change(image, image.u64(at)))

    return harm


def _leak(image: BuiltImage) -> None:
    image.nb_clusters += 3
    for cluster in range(image.nb_clusters - 3, image.nb_clusters):
        image.set_refcount(cluster, 1)


def _beyond(image: BuiltImage) -> None:
    image.set_refcount(image.nb_clusters + 5, 1)
    image.set_refcount(image.nb_clusters + 6, 2)


def _onto_l1(image: BuiltImage) -> None:
    image.set_u64(_entry(image, 2), image.header("l1_table_offset") | OFLAG_COPIED)


def _onto_l1_quietly(image: BuiltImage) -> None:
    """Every count fits, so that qemu-img sees nothing: the guest still reads the L1 table."""
    image.set_refcount(_host(image, 2), 0)
    image.set_u64(_entry(image, 2), image.header("l1_table_offset"))
    image.set_refcount(image.header("l1_table_offset") >> image.geometry.cluster_bits, 2)


def _onto_compressed(image: BuiltImage) -> None:
    """A plain cluster over compressed ones, counted right."""
    packed = image.geometry.compressed_extent(image.u64(_entry(image, 13)))[0]
    cluster = packed >> image.geometry.cluster_bits
    image.set_refcount(_host(image, 2), 0)
    image.set_u64(_entry(image, 2), cluster << image.geometry.cluster_bits)
    image.set_refcount(cluster, image.refcount(cluster) + 1)


def _onto_refcounts(image: BuiltImage) -> None:
    block = image.u64(image.header("refcount_table_offset"))
    image.set_u64(_entry(image, 2), block | OFLAG_COPIED)


def _garble_compressed(image: BuiltImage) -> None:
    offset, length = image.geometry.compressed_extent(image.u64(_entry(image, 14)))
    image.patch(offset, b"\xff" * min(length, 16))


def _no_extra_data(image: BuiltImage) -> None:
    image.patch(image.header("snapshots_offset") + 36, (8).to_bytes(4, "big"))


def _snapshot_l1_outside(image: BuiltImage) -> None:
    image.set_u64(image.header("snapshots_offset"), (image.nb_clusters + 8) * 4096)


def _same_place(image: BuiltImage) -> None:
    image.set_u64(_entry(image, 6), image.u64(_entry(image, 5)))


_REFCOUNTS = [
    Case("QCOW-REFCOUNT-ZERO", "4k", _count(4, 0), [(_ACTIVE, 4, 1), (_FIRST, 4, 1)]),
    Case("QCOW-REFCOUNT-LOW", "4k", _count(5, 1), [(_ACTIVE, 5, 1), (_FIRST, 5, 1)]),
    Case("QCOW-REFCOUNT-HIGH", "512", _count(6, 3), [(_ACTIVE, 6, 1), (_FIRST, 6, 1)]),
    Case("QCOW-REFCOUNT-HIGH-COPIED", "4k", _count(2, 2), [(_ACTIVE, 2, 1)]),
    Case("QCOW-REFCOUNT-ZERO", "zstd", _count(10, 0), [(_ACTIVE, 10, 1), (_FIRST, 10, 1)]),
    Case("QCOW-REFCOUNT-OVERFLOW", "refcount-1", _same_place, [(_ACTIVE, 5, 2)]),
    Case("QCOW-LEAK", "4k", _leak),
    Case("QCOW-REFCOUNT-BEYOND-END", "4k", _beyond, seen=False),
    Case(
        "QCOW-COPIED-SET",
        "4k",
        _change_entry(4, lambda _, entry: entry | OFLAG_COPIED),
        [(_ACTIVE, 4, 1)],
    ),
    Case(
        "QCOW-COPIED-MISSING",
        "extended",
        _change_entry(3, lambda _, entry: entry & ~OFLAG_COPIED),
        [(_ACTIVE, 3, 1)],
    ),
    Case(
        "QCOW-COPIED-MISSING",
        "4k",
        _l1(lambda _, entry: entry & ~OFLAG_COPIED),
        [(_ACTIVE, 0, 512)],
    ),
]
_OVERLAPS = [
    Case("QCOW-OVERLAP", "4k", _onto_l1, [(_ACTIVE, 2, 1)]),
    Case("QCOW-OVERLAP", "4k", _onto_l1_quietly, [(_ACTIVE, 2, 1)], seen=False),
    Case("QCOW-OVERLAP", "4k", _onto_compressed, [(_ACTIVE, 2, 1)], seen=False),
    Case("QCOW-REFBLOCK-SHARED", "4k", _onto_refcounts),
]
_TABLES = [
    Case("QCOW-L1-RESERVED", "4k", _l1(lambda _, entry: entry | 1 << 60), [(_ACTIVE, 0, 512)]),
    Case("QCOW-L1-STRAY", "4k", _l1(lambda _, entry: OFLAG_COPIED), [(_ACTIVE, 0, 512)]),
    Case(
        "QCOW-L2-TABLE-UNALIGNED",
        "4k",
        _l1(lambda _, entry: entry | 1024),
        [(_ACTIVE, 0, 512)],
    ),
    Case(
        "QCOW-L2-TABLE-OUTSIDE",
        "512",
        _l1(lambda image, entry: entry + image.length, index=1),
        [(_ACTIVE, 64, 64)],
    ),
    Case(
        "QCOW-L2-RESERVED",
        "4k",
        _change_entry(5, lambda _, entry: entry | 1 << 58),
        [(_ACTIVE, 5, 1)],
    ),
    Case(
        "QCOW-DATA-UNALIGNED",
        "4k",
        _change_entry(5, lambda _, entry: entry | 512),
        [(_ACTIVE, 5, 1)],
    ),
    Case(
        "QCOW-ZERO-UNALIGNED",
        "4k",
        _change_entry(11, lambda _, entry: entry | 512),
        [(_ACTIVE, 11, 1)],
    ),
    Case(
        "QCOW-DATA-OUTSIDE",
        "64k",
        _change_entry(7, lambda image, entry: entry + image.length),
        [(_ACTIVE, 7, 1)],
    ),
    Case(
        "QCOW-ZERO-FLAG",
        "v2",
        _change_entry(7, lambda _, entry: entry | 1),
        [(_ACTIVE, 7, 1)],
        seen=False,
    ),
    Case(
        "QCOW-ZERO-FLAG",
        "extended",
        _change_entry(7, lambda _, entry: entry | 1),
        [(_ACTIVE, 7, 1)],
        seen=False,
    ),
    Case(
        "QCOW-SUBCLUSTER-BITMAP",
        "extended",
        lambda image: image.set_u64(_entry(image, 6) + 8, 1 << 40 | 1 << 8),
        [(_ACTIVE, 6, 1)],
    ),
    Case(
        "QCOW-SUBCLUSTER-BITMAP",
        "extended",
        lambda image: image.set_u64(_entry(image, 9) + 8, 1 << 8),
        [(_ACTIVE, 9, 1)],
    ),
]
_COMPRESSED = [
    Case(
        "QCOW-COMPRESSED-COPIED",
        "4k",
        _change_entry(13, lambda _, entry: entry | OFLAG_COPIED),
        [(_ACTIVE, 13, 1)],
    ),
    Case(
        "QCOW-COMPRESSED-MISPLACED",
        "extended",
        lambda image: image.set_u64(_entry(image, 13) + 8, 5),
        [(_ACTIVE, 13, 1)],
    ),
    Case(
        "QCOW-COMPRESSED-OUTSIDE",
        "4k",
        _change_entry(13, lambda image, entry: OFLAG_COMPRESSED | 2 * image.length),
        [(_ACTIVE, 13, 1)],
    ),
    Case(
        "QCOW-COMPRESSED-DAMAGED",
        "4k",
        _garble_compressed,
        [(_ACTIVE, 14, 1), (_FIRST, 14, 1)],
        seen=False,
    ),
    Case(
        "QCOW-COMPRESSED-DAMAGED",
        "zstd",
        _garble_compressed,
        [(_ACTIVE, 14, 1), (_FIRST, 14, 1)],
        seen=False,
    ),
]
_STRUCTURES = [
    Case("QCOW-REFBLOCK-RESERVED", "4k", _refcount_table(lambda _, entry: entry | 3)),
    Case("QCOW-REFBLOCK-UNALIGNED", "4k", _refcount_table(lambda _, entry: entry | 512)),
    Case("QCOW-REFBLOCK-OUTSIDE", "4k", _refcount_table(lambda image, entry: entry + image.length)),
    Case("QCOW-SNAPSHOT-INCOMPLETE", "4k", _no_extra_data),
    Case("QCOW-TABLE-OUTSIDE", "4k", _snapshot_l1_outside),
]


def _named(result: CheckResult, code: str) -> Finding:
    found = [finding for finding in result.findings if finding.code == code]
    assert len(found) == 1, codes(result)
    return found[0]


def _id(case: Case) -> str:
    return f"{case.code}-{case.shape}"


@pytest.mark.parametrize(
    "case", _REFCOUNTS + _OVERLAPS + _TABLES + _COMPRESSED + _STRUCTURES, ids=_id
)
def test_cause(tmp_path: Path, case: Case) -> None:
    path = damaged(tmp_path, case.shape, case.harm)
    oracle = ask_qemu(path)
    result = checked(path)
    assert numbers_of(result) == oracle.numbers, oracle.text
    if case.seen:
        assert result.exit_code == oracle.exit_code != 0
    else:
        assert result.exit_code > 1
    finding = _named(result, case.code)
    size = finding.host_ranges[0].length
    assert finding.count >= 1
    assert finding.what.endswith(".")
    assert size > 0
    cluster = 1 << int.from_bytes(path.read_bytes()[20:24], "big")
    named = [(r.state, r.start // cluster, r.length // cluster) for r in finding.guest_ranges]
    for guest in case.guests:
        assert guest in named
    _assert_qemus_words(result, oracle.text)


def _assert_qemus_words(result: CheckResult, text: str) -> None:
    """Examples that sound like qemu-img are what it said, to the letter."""
    printed = set(text.splitlines())
    for finding in result.findings:
        for example in finding.examples:
            if example.startswith(("ERROR", "Leaked")):
                assert example in printed


def test_findings_are_sorted_and_agree_with_the_exit_code(tmp_path: Path) -> None:
    def harm(image: BuiltImage) -> None:
        _leak(image)
        _beyond(image)
        _count(4, 0)(image)
        image.set_header("incompatible_features", 2)

    result = checked(damaged(tmp_path, "4k", harm))
    found = [finding.severity for finding in result.findings]
    assert found == sorted(found, reverse=True)
    assert set(found) == {Severity.CORRUPTION, Severity.LEAK, Severity.WARNING}
    assert (result.exit_code, result.extra_leaks) == (2, 2)
    assert codes(result)[-1] == "QCOW-CORRUPT-BIT"


def test_ranges_are_joined_and_bounded(tmp_path: Path) -> None:
    def harm(image: BuiltImage) -> None:
        for guest in (0, 1, 2, 3, 6):
            image.set_u64(_entry(image, guest), image.u64(_entry(image, guest)) | 1 << 57)

    finding = _named(checked(damaged(tmp_path, "4k", harm)), "QCOW-L2-RESERVED")
    assert finding.count == 5
    assert [(r.start, r.length) for r in finding.guest_ranges] == [(0, 4 * 4096), (6 * 4096, 4096)]
    assert [r.length for r in finding.host_ranges] == [32, 8]
    assert "guest 0x0 to 0x4000, 0x6000 to 0x7000" in finding.what


def test_thousands_of_places_are_listed_in_part(tmp_path: Path) -> None:
    def harm(image: BuiltImage) -> None:
        start = image.nb_clusters
        image.nb_clusters += 20_000
        block = image.u64(image.header("refcount_table_offset"))
        for cluster in range(start, image.nb_clusters, 2):
            image.patch(block + 2 * cluster, b"\0\1")

    path = damaged(tmp_path, "64k", harm)
    result = checked(path)
    assert numbers_of(result) == ask_qemu(path).numbers
    finding = _named(result, "QCOW-LEAK")
    assert finding.truncated
    assert finding.count == result.leaks
    assert len(finding.host_ranges) == 1000
    assert len(finding.examples) == 10
