"""What the layers above a base hold, and who else reads what would be written to the base."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..chain import Chain, dependents
from ..chain.intersect import aligned
from ..disk import Extent, ExtentBatch, ExtentKind, extents_of
from ..errors import StorageError
from ..image.image import Image
from ..image.mapping import select
from ..image.reader import fill
from ..image.state import State
from ..inspect.identity import Identities
from ..jobs import CancelToken
from ..layout.snapshots import Snapshot
from ..storage.identity import identity_of

_FIRST_STORED = ExtentKind.ZERO_ALLOCATED + 1


class Run(NamedTuple):
    """Guest bytes that the base must get; ``extent`` says where they are, None for zeros."""

    start: int
    length: int
    extent: Extent | None


def runs_above(chain: Chain, depth: int, at: int) -> Iterator[Run]:
    """What layers above ``depth`` show from guest byte ``at`` on and the base does not know.

    Ascending.  The base must be as long as the disk.  Raises GuestDataError.
    """
    base = chain.at_layer(depth)
    length = chain.virtual_size - at
    if length <= 0:
        return
    held: Run | None = None
    for seen, under in aligned(chain.runs(at, length), base.runs(at, length)):
        wanted = _shown_above(seen, depth)
        wanted &= ~(_is_zero(seen) & Identities.reads_zero(base, under))
        for extent in extents_of(select(seen, wanted)):
            zero = extent.kind < _FIRST_STORED
            run = Run(extent.start, extent.length, None if zero else extent)
            if held is not None and (joined := _joined(held, run)) is not None:
                held = joined
                continue
            if held is not None:
                yield held
            held = run
    if held is not None:
        yield held


def _shown_above(seen: ExtentBatch, depth: int) -> NDArray[np.bool_]:
    """Runs that do not come from the base; where a layer between ends, it shows zeros itself."""
    return np.asarray(seen.depth < depth)


def _is_zero(seen: ExtentBatch) -> NDArray[np.bool_]:
    return np.asarray(seen.kind < _FIRST_STORED)


def _joined(one: Run, other: Run) -> Run | None:
    """Two runs as one, where the second continues the first."""
    if one.start + one.length != other.start:
        return None
    length = one.length + other.length
    if one.extent is None or other.extent is None:
        both = one.extent is None and other.extent is None
        return Run(one.start, length, None) if both else None
    same = one.extent.kind is other.extent.kind and one.extent.depth == other.extent.depth
    packed = one.extent.kind is ExtentKind.COMPRESSED
    if same and (packed or one.extent.host + one.length == other.extent.host):
        return Run(one.start, length, one.extent._replace(length=length))
    return None


def read_run(chain: Chain, run: Run, offset: int, buffer: memoryview) -> None:
    """Fill ``buffer``, which holds zeros, with the bytes of ``run`` from guest ``offset`` on."""
    if run.extent is None:
        return
    layer = chain.layers[run.extent.depth]
    assert isinstance(layer.disk, State), "what lies above a base is qcow2"
    host = run.extent.host
    if host >= 0:
        host += offset - run.start
    extent = run.extent._replace(start=offset, length=len(buffer), host=host)
    fill(layer.disk, extent, buffer, layer.data_file)


def changed_snapshots(chain: Chain, image: Image, depth: int) -> tuple[Snapshot, ...]:
    """Snapshots of the top that read through the base where it is going to be written."""
    found = []
    for snapshot in image.snapshots:
        then = chain.at_snapshot(snapshot)
        length = min(chain.virtual_size, then.virtual_size)
        for now, before in aligned(chain.runs(0, length), then.runs(0, length)):
            # Beyond the end of the base nothing is there now, and something will be.
            open_end = (before.kind == ExtentKind.UNALLOCATED) & (before.depth == depth - 1)
            through = (before.depth >= depth) | open_end
            written = _shown_above(now, depth) & ~(_is_zero(now) & _is_zero(before))
            if bool((through & written).any()):
                found.append(snapshot)
                break
    return tuple(found)


class Readers(NamedTuple):
    """Images that read the base, by their paths (raw text).

    ``others`` would read something else after a commit.  ``between`` are the layers between the
    top and the base.  ``unknown``: files or folders that could not be looked at.
    """

    others: tuple[str, ...]
    between: tuple[str, ...]
    unknown: tuple[str, ...]


def readers_of_base(chain: Chain, depth: int, cancel: CancelToken | None = None) -> Readers:
    """Search the folders of the chain for images that need the layer at ``depth``."""
    paths = [layer.path for layer in chain.layers[: depth + 1] if layer.path is not None]
    base = chain.layers[depth].path
    if base is None:
        return Readers((), (), ())
    folders = {os.path.realpath(os.path.dirname(os.path.abspath(path))) for path in paths}
    try:
        search = dependents(base, sorted(folders), cancel=cancel)
    except StorageError as error:
        return Readers((), (), (str(error),))
    top, *middle = (
        None if layer.image is None else layer.image.storage.identity()
        for layer in chain.layers[:depth]
    )
    through_top: set[str] = set()
    others, between = [], []
    for one in search.found:  # parents come before their children
        identity = identity_of(one.path)
        if identity == top or one.parent in through_top:
            through_top.add(one.path)  # the disk of the top stays what it is
        elif identity in middle:
            between.append(one.path)
        else:
            others.append(one.path)
    return Readers(tuple(others), tuple(between), search.unreadable)
