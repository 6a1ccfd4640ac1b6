"""Leaked clusters that parse as tables: what they point at, and which table each one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...layout.distinct import distinct
from ...layout.geometry import Geometry
from ...layout.tables import I64, OFFSETS, U64, compressed_fields
from ..classes import ClusterClass
from .leaks import ClusterSet, Leaks
from .shapes import COMPRESSED, COPIED

#: Of so many in ten of its pointers the target must fit.
_MOST = 9


class Candidates(NamedTuple):
    """One element for each leaked cluster that parses as a table.

    int64: ``cluster``; ``used`` entries; ``pointers`` among them; of these, ``surplus`` name
    clusters that are counted more often than referred to, ``l2`` L2 tables in use, ``blocks``
    refcount blocks in use, ``tables`` other candidates; ``first`` and ``last`` entry in use;
    ``place``, its index among the leaked clusters.  ``copied`` bool.
    ``rows``, ``targets``: int64 pairs, the number of the candidate and the index of a leaked
    cluster that it names, often several times where data is compressed (``packed``).  ``row_of``:
    int64, for each leaked cluster which candidate it is, -1 for none.
    """

    cluster: I64
    place: I64
    used: I64
    pointers: I64
    surplus: I64
    l2: I64
    blocks: I64
    tables: I64
    first: I64
    last: I64
    copied: NDArray[np.bool_]
    rows: I64
    targets: I64
    row_of: I64
    packed: bool


@dataclass
class Gather:
    """Takes windows of possible tables and counts what they point at."""

    geometry: Geometry
    leaks: Leaks
    data_file: bool
    #: L2 tables that a state names, whatever their counts say.
    in_use: ClusterSet
    _columns: list[tuple[NDArray[np.int64], ...]] = field(default_factory=list)
    _rows: list[I64] = field(default_factory=list)
    _targets: list[I64] = field(default_factory=list)
    _count: int = 0
    _packed: bool = False

    def add(self, clusters: I64, words: U64, *, entries: bool) -> None:
        """``words``: uint64[k, n].  ``entries``: they are L2 entries (and bitmaps, if extended),
        else bare pointers."""
        extended = entries and self.geometry.extended_l2
        values = words[:, 0::2] if extended else words
        rows, numbers = np.nonzero(values)
        found = values[rows, numbers]
        packed = (found & COMPRESSED) != 0
        hosts = ((found & OFFSETS) >> np.uint64(self.geometry.cluster_bits)).astype(np.int64)
        if packed.any():
            hosts[packed] = compressed_fields(found[packed], self.geometry)[0] >> (
                self.geometry.cluster_bits
            )
        named = packed | ((found & OFFSETS) != 0)
        if self.data_file and entries:
            named &= packed  # the others lie in another file
        number = len(clusters)

        def per_row(which: NDArray[np.bool_]) -> I64:
            return np.bincount(rows[which], minlength=number).astype(np.int64)

        classes = self.leaks.classes_at(hosts)
        leaked = named & self.leaks.leaked.holds(hosts)
        surplus = leaked
        if self.leaks.surplus is not self.leaks.leaked:
            surplus = named & self.leaks.surplus.holds(hosts)
        first = np.full(number, values.shape[1], dtype=np.int64)
        np.minimum.at(first, rows, numbers)
        last = np.full(number, -1, dtype=np.int64)
        np.maximum.at(last, rows, numbers)
        self._columns.append(
            (
                clusters,
                per_row(np.ones(len(rows), dtype=bool)),
                per_row(named),
                per_row(surplus),
                per_row(named & ((classes == ClusterClass.L2) | self.in_use.holds(hosts))),
                per_row(named & (classes == ClusterClass.REFCOUNT_BLOCK)),
                first,
                last,
                per_row((found & COPIED) != 0),
            )
        )
        self._rows.append(rows[leaked] + self._count)
        self._targets.append(self.leaks.leaked.places(hosts[leaked]))
        if packed.any():
            self._packed = True
            self._add_packed_ends(found[packed], rows[packed])
        self._count += number

    def _add_packed_ends(self, found: U64, rows: I64) -> None:
        """Compressed data reaches into further clusters."""
        bits = self.geometry.cluster_bits
        start, length = compressed_fields(found, self.geometry)
        first, last = start >> bits, (start + length - 1) >> bits
        for step in range(1, int((last - first).max()) + 1):
            there = (first + step <= last) & self.leaks.leaked.holds(first + step)
            self._rows.append(rows[there] + self._count)
            self._targets.append(self.leaks.leaked.places((first + step)[there]))

    def result(self) -> Candidates | None:
        """All of them, or None when there are none."""
        if not self._columns:
            return None
        cluster, used, pointers, surplus, l2, blocks, first, last, copied = (
            np.concatenate(column) for column in zip(*self._columns, strict=True)
        )
        rows, targets = np.concatenate(self._rows), np.concatenate(self._targets)
        place = self.leaks.leaked.places(cluster)
        row_of = np.full(len(self.leaks.leaked), -1, dtype=np.int64)
        row_of[place] = np.where(pointers > 0, np.arange(len(cluster)), -1)
        is_table = row_of[targets] >= 0
        tables = np.bincount(rows[is_table], minlength=len(cluster)).astype(np.int64)
        return Candidates(
            cluster, place, used, pointers, surplus, l2, blocks, tables, first, last,
            copied > 0, rows, targets, row_of, self._packed,
        )  # fmt: skip


class Kinds(NamedTuple):
    """bool for each candidate: which it is; at most one is true."""

    orphan_l2: NDArray[np.bool_]
    old_l2: NDArray[np.bool_]
    lost_l1: NDArray[np.bool_]
    old_l1: NDArray[np.bool_]
    old_refcount_table: NDArray[np.bool_]


def judge(found: Candidates) -> Kinds:
    """Tell the tables apart by what they point at."""
    some = found.pointers > 0
    refcounts = some & (10 * found.blocks >= _MOST * found.pointers)
    upper = some & ~refcounts & (2 * (found.l2 + found.tables) >= found.pointers)
    lower = some & ~refcounts & ~upper
    orphan = lower & (10 * found.surplus >= _MOST * found.pointers)
    # What a better supported table names as data only looks like a table, as the tables of an
    # image within the guest do.
    inner = _named_by_better(found, orphan)
    old_l1 = upper & (found.surplus == 0)
    lost_l1 = upper & ~inner & (10 * found.surplus >= _MOST * found.pointers)
    return Kinds(
        orphan & ~inner,
        lower & ~orphan & ~inner & (found.surplus == 0),
        lost_l1,
        old_l1 & ~inner,
        refcounts & ~inner,
    )


def _named_by_better(found: Candidates, orphan: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = np.zeros(len(found.cluster), dtype=bool)
    target = found.row_of[found.targets]
    pairs = np.flatnonzero(target >= 0)
    rows, target = found.rows[pairs], target[pairs]
    better = orphan[rows] & (found.surplus[rows] > found.surplus[target])
    inner[target[better]] = True
    return inner


def conflicts(found: Candidates, orphan: NDArray[np.bool_]) -> I64:
    """For each candidate how many of its leaked clusters another lost table names, too."""
    rows, targets = found.rows, found.targets
    if not orphan.all():
        mine = orphan[rows]
        rows, targets = rows[mine], targets[mine]
    if found.packed:  # a table may name a cluster of compressed data often; that is no conflict
        pairs = distinct((rows << 40) | targets)
        rows, targets = pairs >> 40, pairs & ((1 << 40) - 1)
    often = np.bincount(targets, minlength=len(found.row_of)) > 1
    return np.bincount(rows[often[targets]], minlength=len(found.cluster)).astype(np.int64)
