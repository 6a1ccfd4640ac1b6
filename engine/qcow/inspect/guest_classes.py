"""The class of each *guest* cluster: the allocation map in guest order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..disk import ExtentKind
from ..image.mapping import classify
from ..image.state import State
from ..image.tables import L2Window
from ..jobs import CancelToken
from ..layout.tables import OFFSETS
from .classes import ClusterClass
from .owners import OwnerMap

_STEP = 1 << 20  # guest clusters yielded at a time where nothing is mapped
_BY_KIND = np.zeros(len(ExtentKind), dtype=np.uint8)
_BY_KIND[ExtentKind.UNALLOCATED] = ClusterClass.FREE
_BY_KIND[ExtentKind.ZERO] = ClusterClass.ZERO_ALLOCATED
_BY_KIND[ExtentKind.ZERO_ALLOCATED] = ClusterClass.ZERO_ALLOCATED
_BY_KIND[ExtentKind.DATA] = ClusterClass.DATA
_BY_KIND[ExtentKind.COMPRESSED] = ClusterClass.COMPRESSED
_BY_KIND[ExtentKind.CORRUPT] = ClusterClass.CORRUPT
#: Classes of a host cluster that say more than "data" about the guest cluster it holds.
_TELLING = np.zeros(len(ClusterClass), dtype=bool)
_TELLING[[ClusterClass.SHARED, ClusterClass.CORRUPT, ClusterClass.OVERLAPPING]] = True


def guest_classes(
    state: State, owners: OwnerMap | None = None, *, cancel: CancelToken | None = None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(first guest cluster, classes uint8) of the whole disk, in order, in bounded pieces.

    FREE means unallocated in this layer, ZERO_ALLOCATED any cluster that reads as zeros.  With
    ``owners`` a data cluster takes the class of the host cluster that holds it (shared, corrupt,
    overlapping); without it is DATA.
    """
    for window in state.windows():
        if cancel is not None:
            cancel.check()
        if window.entries is None:
            kind = ClusterClass.FREE if window.fault is None else ClusterClass.CORRUPT
            for at in range(window.first, window.first + window.clusters, _STEP):
                count = min(_STEP, window.first + window.clusters - at)
                yield at, np.full(count, kind, dtype=np.uint8)
        else:
            yield window.first, _window_classes(state, window, owners)


def _window_classes(state: State, window: L2Window, owners: OwnerMap | None) -> NDArray[np.uint8]:
    assert window.entries is not None
    kinds, _host = classify(window.entries, state)
    found: NDArray[np.uint8] = _BY_KIND[kinds]
    if window.bitmaps is not None:
        stored = window.bitmaps & np.uint64(0xFFFFFFFF)
        plain = kinds == ExtentKind.DATA
        found[plain & (stored == 0)] = ClusterClass.FREE
        zeros = (window.bitmaps >> np.uint64(32)) != 0
        found[zeros & (stored == 0) & (found != ClusterClass.CORRUPT)] = ClusterClass.ZERO_ALLOCATED
    if owners is not None and not state.image.header.has_data_file:
        held = np.flatnonzero(kinds == ExtentKind.DATA)
        bits = np.uint64(state.geometry.cluster_bits)
        hosts = ((window.entries[held] & OFFSETS) >> bits).astype(np.int64)
        inside = hosts < owners.total
        held, hosts = held[inside], hosts[inside]
        if len(held):
            of_host = np.zeros(len(held), dtype=np.uint8)
            for chunk, index, where in owners.classes.grouped(hosts):
                of_host[where] = chunk[index]
            telling = _TELLING[of_host]
            found[held[telling]] = of_host[telling]
    return found
