"""Changing cluster 0 so that one 512-byte sector makes the change live.

Every root of an image lies in sector 0, but extensions and the backing file's name may lie behind
it.  :func:`plan_switch` looks for a form of the new content in which the bytes that the old header
uses behind sector 0 stay as they are: then everything else can be written first, without any
effect on the old header, and sector 0 alone is the switch.  Ways to get there:

* the backing file's name goes to bytes of the cluster that nothing uses;
* an extension that keeps its padded length is replaced in place;
* the feature name table, which is long and changes nothing, goes behind the other extensions;
* it loses the names of features that this image does not have (programs that rewrite the header
  bring their own table).

Where none helps, the changed sectors are told one by one: they need a journal.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..record import record
from .constants import EXT_FEATURE_NAMES, SECTOR
from .extensions import encode_extensions
from .features import FEATURE_RECORD, KNOWN_FEATURES
from .header_cluster import HeaderCluster, order_for_switch, used_ranges
from .patch import Patch


@record
class HeaderSwitch:
    """How cluster 0 gets its new content.

    ``pre_writes`` change bytes that mean nothing to the old header; they are written and made
    durable before the switch.  ``patches`` are whole 512-byte sectors in ascending order: the
    switch itself.  ``cluster`` is what the cluster then says; only its feature name table may be
    shorter than what was asked for.
    """

    cluster: HeaderCluster
    pre_writes: tuple[Patch, ...]
    patches: tuple[Patch, ...]

    @property
    def one_sector(self) -> bool:
        """Whether writing sector 0 is the whole switch, so that no journal is needed."""
        return all(patch.offset == 0 for patch in self.patches)

    def applied(self, old: bytes) -> bytes:
        """Cluster 0 after all of it."""
        made = bytearray(old)
        for patch in (*self.pre_writes, *self.patches):
            made[patch.offset : patch.end] = patch.after
        return bytes(made)


def plan_switch(old: bytes, new: HeaderCluster) -> HeaderSwitch:
    """Find out how cluster 0 turns from ``old`` (its bytes) into what ``new`` says.

    Bytes of the cluster that no structure uses are kept while there is room beside them.  Raises
    EditRefused when ``new`` does not fit into the cluster, FormatError when ``old`` cannot be told.
    """
    size = HeaderCluster.parse(old).header.cluster_size
    if new.header.cluster_size != size:
        raise ValueError("the cluster size of an image cannot be changed")
    canonical = new.encode()
    site = _Site(old[:size].ljust(size, b"\0"))
    forms = _forms(new)
    for form in (*forms, *_trimmed(new)):
        for made in site.layouts(form, tidy_to=SECTOR):
            if site.harmless_behind_sector_0(made):
                return site.switch(form, made)
    for form in forms:
        for made in site.layouts(form, tidy_to=size):
            return site.switch(form, made, journalled=True)
    # Bytes of unknown use leave no room beside them; they go, as they would with QEMU.
    return site.switch(new, _array(canonical.ljust(size, b"\0")), journalled=True)


def _forms(new: HeaderCluster) -> tuple[HeaderCluster, ...]:
    """The content in its own order, and with what changes often inside sector 0: the better first.

    An extension that was put behind sector 0 could only be changed there with a journal later.
    """
    ordered = _reordered(new)
    if ordered.extensions == new.extensions:
        return (new,)
    small = tuple(e for e in new.extensions if e[0] != EXT_FEATURE_NAMES)
    fits = new.header.header_length + len(encode_extensions(small)) <= SECTOR
    whole = new.header.header_length + len(encode_extensions(new.extensions)) <= SECTOR
    return (ordered, new) if fits and not whole else (new, ordered)


def _reordered(new: HeaderCluster) -> HeaderCluster:
    return HeaderCluster(new.header, order_for_switch(new.extensions), new.backing_name)


def _trimmed(new: HeaderCluster) -> Iterator[HeaderCluster]:
    """The content with as short a feature name table as lets the extensions end in sector 0."""
    table = new.extension(EXT_FEATURE_NAMES)
    if table is None or len(table) % FEATURE_RECORD:
        return
    header = new.header
    masks = (header.incompatible_features, header.compatible_features, header.autoclear_features)
    rows = [table[at : at + FEATURE_RECORD] for at in range(0, len(table), FEATURE_RECORD)]
    unset = [
        index
        for index, row in enumerate(rows)
        if (row[0], row[1]) in KNOWN_FEATURES and not masks[row[0]] >> row[1] & 1
    ]
    while unset:
        del rows[unset.pop()]
        form = _reordered(new.with_feature_names(b"".join(rows) or None))
        if header.header_length + len(encode_extensions(form.extensions)) <= SECTOR:
            yield form
            return


def _array(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


class _Site:
    """The old cluster: which of its bytes are used, and what could be built there."""

    def __init__(self, old: bytes) -> None:
        self._old = _array(old)
        self._used = np.zeros(len(old), dtype=np.bool_)
        for start, end in used_ranges(old):
            self._used[start:end] = True
        self._unknown = (self._old != 0) & ~self._used
        parsed = HeaderCluster.parse(old)
        self._name = parsed.backing_name
        self._name_at = parsed.header.backing_file_offset

    def layouts(self, form: HeaderCluster, tidy_to: int) -> Iterator[NDArray[np.uint8]]:
        """The cluster with ``form`` in it, one for each place the name could have.

        Bytes below ``tidy_to`` that are no longer used become zeros; bytes of unknown use stay.
        """
        area = encode_extensions(form.extensions)
        start = form.header.header_length
        end = start + len(area)
        name = form.backing_name or b""
        if end > len(self._old):
            return
        for name_at in self._name_places(form, start, end):
            pieces = [(0, form.encode_header(name_at)), (start, area), (name_at, name)]
            if any(self._unknown[at : at + len(data)].any() for at, data in pieces):
                continue
            made = self._old.copy()
            made[:tidy_to][self._used[:tidy_to]] = 0
            for at, data in pieces:
                made[at : at + len(data)] = _array(data)
            yield made

    def _name_places(self, form: HeaderCluster, start: int, end: int) -> Iterator[int]:
        """Where the name could go: where it is, right behind the extensions, into a gap."""
        name = form.backing_name
        if name is None:
            yield 0
            return
        if name == self._name and self._name_at >= end:
            yield self._name_at
        if end + len(name) <= len(self._old):
            yield end
        busy = self._unknown | self._used
        busy[:SECTOR] = self._unknown[:SECTOR]  # what is used there changes in the same write
        busy[start:end] = True
        taken = busy.tobytes()
        at = end
        while (at := taken.find(bytes(len(name)), at)) >= 0:
            if at % 8 == 0:
                yield at
                return
            at += -at % 8

    def harmless_behind_sector_0(self, made: NDArray[np.uint8]) -> bool:
        """Whether all bytes that the old header uses behind sector 0 are the same in ``made``."""
        changed = made[SECTOR:] != self._old[SECTOR:]
        return not bool((changed & self._used[SECTOR:]).any())

    def switch(
        self, form: HeaderCluster, made: NDArray[np.uint8], *, journalled: bool = False
    ) -> HeaderSwitch:
        changed = np.unique(np.flatnonzero(made != self._old) // SECTOR)
        patches = tuple(self._patch(int(sector), made) for sector in changed)
        if journalled:
            return HeaderSwitch(form, (), patches)
        return HeaderSwitch(
            form,
            tuple(patch for patch in patches if patch.offset),
            tuple(patch for patch in patches if not patch.offset),
        )

    def _patch(self, sector: int, made: NDArray[np.uint8]) -> Patch:
        part = slice(sector * SECTOR, (sector + 1) * SECTOR)
        return Patch(part.start, self._old[part].tobytes(), made[part].tobytes())
