"""The feature bit for extended L2 entries, lost by damage: every other word of a table is a bitmap.

Read as entries of 8 bytes, the bitmaps are nonsense: reserved bits, offsets that are not aligned.
Then a check of the whole image with the bit set decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...findings import Finding
from ...image.image import Image
from ...image.tables import l2_tables, read_l1
from ...inspect.check import check
from ...inspect.check import kinds as K
from ...layout.constants import EXTENDED_L2, L2_RESERVED_MASK, OFLAG_COMPRESSED
from ...layout.geometry import Geometry
from ...layout.tables import OFFSETS, U64
from ...record import replace
from .header import with_field
from .mends import HeaderMend, Mend, Sight
from .remedy import Option

_COMPRESSED = np.uint64(OFLAG_COMPRESSED)
_RESERVED = np.uint64(L2_RESERVED_MASK)
#: Tables that are looked at before the whole image is checked.
_SAMPLE = 32
#: The smallest clusters that have subclusters.
_LEAST_BITS = 14


def find_extended_l2(sight: Sight) -> list[Mend]:
    """One remedy when the tables are extended ones and the header does not say so."""
    image, geometry = sight.image, sight.image.geometry
    if geometry is None or geometry.extended_l2 or geometry.cluster_bits < _LEAST_BITS:
        return []
    if geometry.version < 3 or image.header.has_data_file:
        return []
    if not _look_extended(image, geometry):
        return []
    bits = image.header.incompatible_features | EXTENDED_L2
    header = with_field(sight.header, "incompatible_features", bits)
    other = sight.tried(header)
    if other is None or other.unusable is not None:
        return []
    before, after = (check(each, cancel=sight.cancel, decode=False) for each in (image, other))
    errors = after.corruptions + after.extra_corruptions + after.check_errors
    if errors >= before.corruptions + before.extra_corruptions + before.check_errors:
        return []
    found = f"{errors} errors" if errors else "no error"
    option = Option(
        "extended",
        "Take the L2 entries for extended ones: set the feature bit",
        "Every table and all guest data that they map.",
        "" if not errors else "What the errors that remain may hide.",
        "The header.",
        certain=not errors,
        evidence=(
            "Every other word of the L2 tables is no entry, but a bitmap of subclusters.",
            f"With the bit a check of the whole image finds {found}.",
        ),
    )
    finding = Finding(
        K.SUBCLUSTERS,
        "The L2 tables have extended entries, and the header does not say so: the feature bit was "
        "lost.",
        structure="header",
    )
    default = None if errors else option.key
    return [HeaderMend("extended-l2", finding, {option: header}, default)]


def _look_extended(image: Image, geometry: Geometry) -> bool:
    """Whether the even words of some L2 tables are entries, and most odd ones cannot be any."""
    header = image.header
    l1 = read_l1(image.storage, header.l1_table_offset, header.l1_size)
    offsets = (l1 & OFFSETS).astype(np.int64)
    usable = (offsets != 0) & (offsets % geometry.cluster_size == 0)
    usable &= offsets < image.storage.size()
    tables = np.unique(offsets[usable])[:_SAMPLE]
    extended = replace(geometry, extended_l2=True)
    even = odd = wrong_even = wrong_odd = 0
    for batch in l2_tables(image.storage, extended, tables):
        assert batch.bitmaps is not None
        even += int(np.count_nonzero(batch.entries))
        odd += int(np.count_nonzero(batch.bitmaps))
        wrong_even += int(np.count_nonzero(_impossible(batch.entries, geometry)))
        wrong_odd += int(np.count_nonzero(_impossible(batch.bitmaps, geometry)))
    return odd > 0 and 2 * wrong_odd > odd and 2 * wrong_even <= even


def _impossible(words: U64, geometry: Geometry) -> NDArray[np.bool_]:
    """Which of ``words`` (uint64, any shape) cannot be plain or compressed entries of 8 bytes."""
    plain = (words & _COMPRESSED) == 0
    unaligned = (words & OFFSETS & np.uint64(geometry.cluster_size - 1)) != 0
    wrong: NDArray[np.bool_] = plain & (((words & _RESERVED) != 0) | unaligned)
    return wrong
