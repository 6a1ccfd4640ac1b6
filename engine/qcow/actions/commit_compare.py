"""Whether a base shows what the image above it shows: what a commit must know before it empties."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ..chain import Chain
from ..chain.intersect import aligned
from ..disk import ExtentKind
from ..errors import VerificationError
from ..inspect.diff import read_padded
from ..inspect.identity import Identities
from ..layout.constants import SECTOR

if TYPE_CHECKING:
    from ..edit.editor import Editor

#: Guest bytes read at a time from each of the two.
_PIECE = 4 << 20


def require_same(editor: Editor, depth: int, start: int, stop: int) -> None:
    """Raise VerificationError unless the layer at ``depth`` shows guest bytes [start, stop) of it.

    Both are read anew, at the same time; what one and the same table maps is the same.
    """
    editor.refresh()
    top = editor.chain()
    base = top.at_layer(depth)
    one, other = (np.zeros(_PIECE // 8, dtype=np.uint64) for _ in range(2))
    with ThreadPoolExecutor(1) as pool:
        for begin, end in _unlike(top, base, start, stop):
            for at in range(begin, end, _PIECE):
                editor.step("comparing the base", at - start, stop - start, "bytes")
                words = -(-min(_PIECE, end - at) // 8)
                reading = pool.submit(read_padded, base, at, other[:words])
                read_padded(top, at, one[:words])
                reading.result()
                if not np.array_equal(one[:words], other[:words]):
                    differs = int((one[:words] != other[:words]).argmax()) * 8
                    raise VerificationError(
                        "The base does not show what the image shows at "
                        f"{(at + differs) // SECTOR * SECTOR:#x} of the disk, so the image was not "
                        "emptied; its disk is what it was."
                    )


def _unlike(top: Chain, base: Chain, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """(start, end) of runs in [start, stop) that must be read, neighbours joined.

    Whole sectors: a run of a raw file may end anywhere.
    """
    identities = Identities(top, base)
    held: tuple[int, int] | None = None
    for one, other in aligned(top.runs(start, stop - start), base.runs(start, stop - start)):
        same = identities.same_table(one, other)
        same |= identities.reads_zero(top, one) & identities.reads_zero(base, other)
        data = (one.kind == ExtentKind.DATA) & (other.kind == ExtentKind.DATA)
        same |= identities.same_file(one, other) & data & (one.host == other.host)
        first = one.start[~same] & -SECTOR
        last = (one.start[~same] + one.length[~same] + SECTOR - 1) & -SECTOR
        for begin, end in zip(first.tolist(), last.tolist(), strict=True):
            if held is not None and begin <= held[1]:
                held = held[0], max(end, held[1])
                continue
            if held is not None:
                yield held
            held = begin, end
    if held is not None:
        yield held
