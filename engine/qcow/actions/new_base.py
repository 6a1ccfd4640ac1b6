"""Opening the backing file that an image is to get, before the image names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

from ..chain import Chain, open_chain
from ..edit.editor import Editor
from ..errors import EditRefused, UsageError
from ..findings import GuestRange
from ..formats.probe import PROBE_LENGTH, probe
from ..image.image import Image
from ..inspect.diff import Ranges
from ..opening import open as open_image
from ..record import replace
from ..storage.gate import Gate, resolve
from ..storage.identity import identity_of
from ..storage.locks import LockMode
from ..text import safe

#: Ranges of a difference that are listed in a plan.
LISTED = 1000


def encoded_name(backing: str) -> bytes:
    """As it is stored.  Raises UsageError for an empty one."""
    name = os.fsencode(backing)
    if not name:
        raise UsageError("The name of the backing file is empty.")
    return name


def require_room_for_backing(image: Image) -> None:
    """Raise EditRefused for an image that can have no backing file."""
    if image.data_file_raw:
        raise EditRefused(
            f"'{safe(image.name)}' keeps its guest data in a raw external data file, which must "
            "hold all of it: such an image cannot have a backing file."
        )


def open_over(image: Image, name: bytes, format: str | None, gate: Gate, lock: LockMode) -> Chain:
    """The disk of ``image`` as it would be over the backing file ``name``; closed by the caller.

    The user named that file, so it is opened wherever it lies; what it refers to itself passes
    ``gate``.  ``format`` None means that of its first bytes.  Raises EditRefused when it is the
    image itself or lies above it in a circle, StorageError, LockedError, UnsupportedFormat,
    FormatError, ReferenceRefused (no local file).
    """
    storage = image.storage
    path = resolve(storage.path or storage.name, name)
    own = storage.identity()
    if own is not None and identity_of(path) == own:
        raise EditRefused(f"'{safe(path)}' is the image itself: it cannot be its own backing file.")
    with ExitStack() as opened:
        base = open_image(path, format=format, lock=lock)
        opened.callback(base.close)
        below = opened.enter_context(open_chain(base, gate, lock=lock))
        for layer in below.layers[1:]:
            if own is not None and layer.path is not None and identity_of(layer.path) == own:
                raise EditRefused(
                    f"'{safe(path)}' is itself built on '{safe(image.name)}': the chain would run "
                    "in a circle."
                )
        stated = None if format is None else format.encode()
        first = replace(below.layers[0], name=name, path=path, stated_format=stated)
        layers = tuple(
            replace(layer, depth=layer.depth + 1) for layer in (first, *below.layers[1:])
        )
        top = open_chain(image, Gate.closed()).layers[0]
        return Chain((top, *layers), below.problems, opened=opened.pop_all())


def over_new_base(editor: Editor, backing: str | None, format: str | None) -> Chain:
    """:func:`open_over` for the image under change; without ``backing``, over nothing."""
    if backing is None:
        return Chain(editor.chain().layers[:1])
    # In earnest nobody may write to the base meanwhile; a plan only looks.
    lock = LockMode.SNOOP if editor.dry else LockMode.READER
    over = open_over(editor.image, encoded_name(backing), format, editor.gate, lock)
    with ExitStack() as opened:
        opened.callback(over.close)
        return on_top(editor, over, opened.pop_all())


def on_top(editor: Editor, over: Chain, opened: ExitStack | None = None) -> Chain:
    """The image as it is now, with its data file, on the layers below the top of ``over``."""
    top = editor.chain().layers[0]
    return Chain((top, *over.layers[1:]), over.problems, opened=opened)


def found_format(chain: Chain) -> str:
    """The format of the new base by its first bytes."""
    base = chain.layers[1].image
    assert base is not None
    return probe(base.storage.read(0, PROBE_LENGTH))


def summed(found: Iterator[Ranges], state: str = "active") -> tuple[int, tuple[GuestRange, ...]]:
    """(bytes of all ranges, the first :data:`LISTED` of them)."""
    total = 0
    ranges: list[GuestRange] = []
    for part in found:
        total += int(part.length.sum())
        left = max(0, LISTED - len(ranges))
        pairs = zip(part.start[:left].tolist(), part.length[:left].tolist(), strict=True)
        ranges += [GuestRange(start, length, state) for start, length in pairs]
    return total, tuple(ranges)
