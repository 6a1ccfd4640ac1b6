"""Compressed clusters among leaks whose tables are gone: streams that unpack to whole clusters."""

from __future__ import annotations

import numpy as np

from ...codecs.compression import DecodeError, decompressor
from ...image.image import Image
from ...jobs import CancelToken
from ...layout.constants import COMPRESSION_NAMES
from ...layout.distinct import distinct
from ...layout.geometry import Geometry
from ...layout.tables import I64

#: Leaked runs that are tried.
_MOST_RUNS = 256
#: A stream of so few bytes for a whole cluster proves nothing unless others follow it.
_SHORTEST = 16


def find_packed(image: Image, geometry: Geometry, clusters: I64, cancel: CancelToken | None) -> I64:
    """Those of ``clusters`` (int64, ascending) whose run begins with such a stream (int64).

    Programs begin a run of compressed clusters where a cluster begins; the rest of the run is
    taken for more of them.
    """
    if not len(clusters) or geometry.compression_type >= len(COMPRESSION_NAMES):
        return np.zeros(0, dtype=np.int64)
    unpack = decompressor(COMPRESSION_NAMES[geometry.compression_type])
    size = geometry.cluster_size
    runs = np.split(clusters, np.flatnonzero(np.diff(clusters) != 1) + 1)
    found: list[I64] = []
    for run in runs[:_MOST_RUNS]:
        if cancel is not None:
            cancel.check()
        data = image.storage.read(int(run[0]) * size, 2 * size if len(run) > 1 else size)
        try:
            unpack(data, size)
        except DecodeError:
            continue
        if any(data[_SHORTEST:]):
            found.append(run)
    return distinct(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
