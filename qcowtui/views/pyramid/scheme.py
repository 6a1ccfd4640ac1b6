"""What the values of a map mean for its summaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ladder import Peaks, Summary
from .packing import Values

#: Counts of up to seven groups in one uint64.
PackedTallies = NDArray[np.uint64]

_FIELD: Final = 9  # bits of one count in a packed tally
_FIELD_MASK: Final = np.uint64((1 << _FIELD) - 1)
#: The most clusters whose packed tallies may be added up.
PACKED_LIMIT: Final = (1 << _FIELD) - 1


@dataclass(frozen=True, slots=True)
class Scheme:
    """How values (uint8 or uint16) are summed up.

    ``peaks[value]`` is the peak of one cluster (uint32), joined by ``join``.  ``group[value]`` is
    the tally field it counts in (int8, -1 for none), ``fields`` (at most 7) how many there are.
    ``bucket[value]`` is its row (uint8) in the exact counts of ``buckets`` rows.

    The largest value of the type is reserved: it fills the space behind the last cluster, with peak
    0, no group and the bucket ``buckets``, which is not shown.
    """

    dtype: np.dtype[Any]
    peaks: Peaks
    join: np.ufunc
    fields: int
    group: NDArray[np.int8]
    bucket: NDArray[np.uint8]
    buckets: int
    packed_tallies: PackedTallies = field(init=False)

    def __post_init__(self) -> None:
        table = np.zeros(len(self.group), np.uint64)
        counted = self.group >= 0
        shifts = self.group[counted].astype(np.uint64) * np.uint64(_FIELD)
        table[counted] = np.uint64(1) << shifts
        object.__setattr__(self, "packed_tallies", table)

    @property
    def padding(self) -> int:
        """The value of clusters that do not exist."""
        return len(self.group) - 1

    def alike(self, values: Values, clusters: int) -> Summary:
        """Summaries of spans of ``clusters`` clusters each of which has one value."""
        group = self.group[values]
        tally = np.zeros((self.fields, len(values)), np.uint32)
        counted = np.flatnonzero(group >= 0)
        tally[group[counted], counted] = clusters
        return Summary(self.peaks[values], tally)

    def count(self, values: Values) -> NDArray[np.int64]:
        """How many of ``values`` are in each bucket: int64 (buckets + 1,)."""
        chosen = np.take(self.bucket, values.ravel())
        return np.bincount(chosen, minlength=self.buckets + 1).astype(np.int64, copy=False)


class Query(NamedTuple):
    """A property of clusters to search for.

    ``values[value]`` (bool) says which values have it.  A span may hold such a cluster when its
    peak meets the mask ``any_peak`` or one of its tally fields ``any_fields`` is not zero.
    """

    values: NDArray[np.bool_]
    any_peak: int = 0
    any_fields: tuple[int, ...] = ()

    def may_hold(self, summary: Summary) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (summary.peak & np.uint32(self.any_peak)) != 0
        for row in self.any_fields:
            found |= summary.tally[row] != 0
        return found


def tally_fields(packed: PackedTallies, fields: int) -> NDArray[np.uint64]:
    """The counts in packed tallies: (n,) becomes (fields, n)."""
    shifts = np.arange(fields, dtype=np.uint64) * np.uint64(_FIELD)
    return (packed >> shifts[:, None]) & _FIELD_MASK
