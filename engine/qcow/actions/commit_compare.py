"""Whether a base shows what the image above it shows: what a commit must know before it empties."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..chain import Chain
from ..chain.intersect import aligned
from ..disk import Extent, ExtentKind, extents_of
from ..errors import VerificationError
from ..image.mapping import select
from ..inspect.diff import read_padded
from ..inspect.identity import Identities
from ..layout.constants import SECTOR
from ..layout.tables import U64
from ..storage.buffers import page_aligned
from .stored import Place, place_of

if TYPE_CHECKING:
    from ..edit.editor import Editor

#: Bytes read at a time from each of the two: few enough to stay in the processor's cache.
_PIECE = 1 << 20
#: Bytes that are compared between two looks whether to go on.
_JOB = 32 << 20


class _Job(NamedTuple):
    """Guest bytes from ``start`` that must be the same; ``places`` where both lie as they are."""

    start: int
    length: int
    places: tuple[Place, Place] | None


def same_data(editor: Editor, depth: int, start: int, stop: int) -> list[Callable[[], None]]:
    """Jobs that compare guest bytes [start, stop) of the layer at ``depth`` with the image's.

    Both are read anew, but for what one and the same table maps.  Each job raises VerificationError
    where they differ, as this does for what a thread cannot read by itself.  They are to be done
    before the chain is opened anew; writing to free clusters of the base does not disturb them.
    """
    editor.refresh()
    top = editor.chain()
    base = top.at_layer(depth)
    pair = [page_aligned(_PIECE).view(np.uint64) for _ in range(2)]
    direct: list[Callable[[], None]] = []
    for job in _jobs(top, base, start, stop):
        if job.places is None:
            _read_and_compare(editor, top, base, job, pair)
        else:
            direct.append(partial(_compare, job, pair))
    return direct


def _compare(job: _Job, pair: list[U64]) -> None:
    assert job.places is not None
    for at in range(0, job.length, _PIECE):
        length = min(_PIECE, job.length - at)
        words = -(-length // 8)
        for place, buffer in zip(job.places, pair, strict=True):
            buffer[words - 1] = 0  # the last sector of a raw file may be a part of one
            view = buffer[:words].data.cast("B")[:length]
            got = place.storage.read_into(place.host + at, view)
            view[got:] = bytes(length - got)
        _require_equal(job.start + at, pair[0][:words], pair[1][:words])


def _read_and_compare(editor: Editor, top: Chain, base: Chain, job: _Job, pair: list[U64]) -> None:
    for at in range(job.start, job.start + job.length, _PIECE):
        editor.step("comparing the base", at, job.start + job.length, "bytes")
        words = -(-min(_PIECE, job.start + job.length - at) // 8)
        for disk, buffer in zip((top, base), pair, strict=True):
            read_padded(disk, at, buffer[:words])
        _require_equal(at, pair[0][:words], pair[1][:words])


def _require_equal(at: int, one: U64, other: U64) -> None:
    if np.array_equal(one, other):
        return
    differs = at + int((one != other).argmax()) * 8
    raise VerificationError(
        f"The base does not show what the image shows at {differs // SECTOR * SECTOR:#x} of the "
        "disk, so the image was not emptied; its disk is what it was."
    )


def _jobs(top: Chain, base: Chain, start: int, stop: int) -> Iterator[_Job]:
    """What must be read of [start, stop), in pieces for one thread each."""
    identities = Identities(top, base)
    length = stop - start
    for one, other in aligned(top.runs(start, length), base.runs(start, length)):
        same = identities.same_table(one, other)
        same |= identities.reads_zero(top, one) & identities.reads_zero(base, other)
        data = (one.kind == ExtentKind.DATA) & (other.kind == ExtentKind.DATA)
        same |= identities.same_file(one, other) & data & (one.host == other.host)
        pairs = extents_of(select(one, ~same)), extents_of(select(other, ~same))
        for seen, under in zip(*pairs, strict=True):
            yield from _divided(seen, _places(top, base, seen, under))


def _places(top: Chain, base: Chain, seen: Extent, under: Extent) -> tuple[Place, Place] | None:
    one, other = place_of(top, seen), place_of(base, under)
    return None if one is None or other is None else (one, other)


def _divided(run: Extent, places: tuple[Place, Place] | None) -> Iterator[_Job]:
    for at in range(0, run.length, _JOB):
        part = None
        if places is not None:
            one, other = (place._replace(host=place.host + at) for place in places)
            part = one, other
        yield _Job(run.start + at, min(_JOB, run.length - at), part)
