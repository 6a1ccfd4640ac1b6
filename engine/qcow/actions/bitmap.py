"""The actions of ``bitmap``: adding, removing, clearing, switching and merging dirty bitmaps.

Guest data is not touched.  Names are text as a user types it; in the image they are bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..edit.bitmap_data import (
    BitmapEdit,
    clear,
    dirty_ranges,
    empty_bitmap,
    release,
    require_consistent,
)
from ..edit.editor import Editor
from ..edit.plan import Outcome
from ..edit.transaction import Transaction
from ..errors import EditRefused, NotFoundError, QcowError, UsageError
from ..image.image import Image
from ..layout.bitmaps import BitmapEntry, encode_bitmap_directory
from ..layout.constants import (
    BITMAP_AUTO,
    MAX_BITMAP_DIRECTORY_BYTES,
    MAX_BITMAPS,
    MAX_NAME,
)
from ..opening import AnyImage
from ..opening import open as open_image
from ..record import record, replace
from ..text import plural, safe
from ..text import size as size_of
from .command_line import command_line

_LEAST_GRANULARITY = 512
_MOST_GRANULARITY = 1 << 31
#: Between these the default granularity is the cluster size.
_LEAST_DEFAULT, _MOST_DEFAULT = 4096, 65536


@record
class BitmapAdd:
    """Add an empty bitmap called ``name``.

    ``granularity``: guest bytes of a bit, a power of two from 512 bytes to 2 GiB; None for the
    cluster size, at least 4 KiB and at most 64 KiB.  ``disabled``: it records nothing.
    """

    name: str
    granularity: int | None = None
    disabled: bool = False
    verb = "bitmap"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        flags = ["--add", *(["--disable"] if self.disabled else [])]
        if self.granularity is not None:
            flags += ["-g", str(self.granularity)]
        return command_line("bitmap", *flags, path, self.name)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "bitmap",
            "add": safe(self.name),
            "granularity": self.granularity,
            "disabled": self.disabled,
        }

    def run(self, editor: Editor) -> Outcome:
        image = editor.image
        with _named("add", self.name):
            granularity = self._granularity(image)
            _require_new(image, self.name)
            tx = editor.begin()
            stale = _stale(image)
            flags = 0 if self.disabled else BITMAP_AUTO
            try:
                tx.bitmaps.append(empty_bitmap(tx, _raw(self.name), granularity, flags))
            except EditRefused as error:
                raise _not_persistent(image, self.name, str(error)) from error
            if len(encode_bitmap_directory(tx.bitmaps)) > MAX_BITMAP_DIRECTORY_BYTES:
                raise _not_persistent(image, self.name, "Not enough space in the bitmap directory")
            editor.commit(tx)
        how = "does not record" if self.disabled else "records"
        return Outcome(
            summary=f'Adds bitmap "{safe(self.name)}", which {how} changes from now on.',
            steps=("Writes an empty table and adds it to the bitmap directory.",),
            warnings=stale,
            facts={"granularity": granularity},
        )

    def _granularity(self, image: Image) -> int:
        if self.granularity is None:
            size = image.header.cluster_size
            return min(max(size, _LEAST_DEFAULT), _MOST_DEFAULT)
        if self.granularity not in (1 << bits for bits in range(9, 32)):
            raise UsageError(
                "Granularity must be power of 2 and at least 512"
                if self.granularity <= _MOST_GRANULARITY
                else f"Granularity exceeds maximum ({_MOST_GRANULARITY} bytes)"
            )
        return self.granularity


@record
class BitmapRemove:
    """Remove bitmap ``name``, an inconsistent one too."""

    name: str
    verb = "bitmap"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        return command_line("bitmap", "--remove", path, self.name)

    def describe(self) -> dict[str, Any]:
        return {"verb": "bitmap", "remove": safe(self.name)}

    def run(self, editor: Editor) -> Outcome:
        with _named("remove", self.name):
            tx, entry = _begin(editor, self.name, any_state=True)
            release(tx, entry)
            tx.bitmaps.remove(entry)
            editor.commit(tx)
        return Outcome(
            summary=f'Removes bitmap "{safe(self.name)}"; '
            f"keeps {plural(len(tx.bitmaps), 'other')}.",
            loses="What the bitmap recorded, once its space is reclaimed: the next backup based on "
            "it must be a full one.",
        )


@record
class BitmapClear:
    """Clear all bits of bitmap ``name``."""

    name: str
    verb = "bitmap"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        return command_line("bitmap", "--clear", path, self.name)

    def describe(self) -> dict[str, Any]:
        return {"verb": "bitmap", "clear": safe(self.name)}

    def run(self, editor: Editor) -> Outcome:
        with _named("clear", self.name):
            tx, entry = _begin(editor, self.name)
            dirty = _dirty_bytes(editor, entry)
            clear(tx, entry)
            editor.commit(tx)
        return Outcome(
            summary=f'Clears bitmap "{safe(self.name)}", in which {dirty} bytes were marked.',
            loses="What the bitmap recorded, once its space is reclaimed." if dirty else "",
            facts={"dirty-before": dirty, "dirty-after": 0},
        )


@record
class BitmapEnable:
    """Let bitmap ``name`` record changes from now on."""

    name: str
    verb = "bitmap"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        return command_line("bitmap", "--enable", path, self.name)

    def describe(self) -> dict[str, Any]:
        return {"verb": "bitmap", "enable": safe(self.name)}

    def run(self, editor: Editor) -> Outcome:
        with _named("enable", self.name):
            _set_recording(editor, self.name, True)
        return Outcome(summary=f'Lets bitmap "{safe(self.name)}" record changes from now on.')


@record
class BitmapDisable:
    """Let bitmap ``name`` record nothing any more; it keeps what it has."""

    name: str
    verb = "bitmap"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        return command_line("bitmap", "--disable", path, self.name)

    def describe(self) -> dict[str, Any]:
        return {"verb": "bitmap", "disable": safe(self.name)}

    def run(self, editor: Editor) -> Outcome:
        with _named("disable", self.name):
            _set_recording(editor, self.name, False)
        return Outcome(
            summary=f'Stops bitmap "{safe(self.name)}"; what it has recorded stays.',
            warnings=("Changes made while no bitmap records them are missing from backups.",),
        )


@record
class BitmapMerge:
    """Set in bitmap ``name`` what is set in bitmap ``source``; granularities may differ.

    ``source_file``: the image that has ``source``, of ``source_format`` (None: looked at); None
    for this image.
    """

    source: str
    name: str
    source_file: str | None = None
    source_format: str | None = None
    verb = "bitmap"
    writes_below: tuple[int, ...] = ()

    def command(self, path: str) -> str:
        flags = ["--merge", self.source]
        if self.source_file is not None:
            flags += ["-b", self.source_file]
        if self.source_format is not None:
            flags += ["-F", self.source_format]
        return command_line("bitmap", *flags, path, self.name)

    def describe(self) -> dict[str, Any]:
        return {
            "verb": "bitmap",
            "merge": safe(self.source),
            "into": safe(self.name),
            "source-file": None if self.source_file is None else safe(self.source_file),
            "source-format": None if self.source_format is None else safe(self.source_format),
        }

    def run(self, editor: Editor) -> Outcome:
        if self.source_format is not None and self.source_file is None:
            raise UsageError("-F only supported with -b")
        with _named("merge", self.name), self._opened(editor) as other:
            tx, target = _begin(editor, self.name)
            if not isinstance(other, Image):
                raise _not_found(self.source)
            found = _present(other, self.source)
            require_consistent(found)
            if other.virtual_size != editor.image.virtual_size:
                raise EditRefused(
                    "Bitmaps are of different sizes (destination size is "
                    f"{editor.image.virtual_size}, source size is {other.virtual_size}) and can't "
                    "be merged"
                )
            before = _dirty_bytes(editor, target)
            edit = BitmapEdit(tx, target)
            for ranges in dirty_ranges(other, found):
                done = int(ranges.end[-1])
                editor.step("merging", done, other.virtual_size, "bytes")
                edit.set(ranges)
            edit.finish()
            editor.commit(tx)
            after = _dirty_bytes(editor, _present(editor.image, self.name))
        return Outcome(
            summary=f'Merges bitmap "{safe(self.source)}" into "{safe(self.name)}", in which '
            f"{size_of(after)} are marked then.",
            facts={"dirty-before": before, "dirty-after": after},
        )

    @contextmanager
    def _opened(self, editor: Editor) -> Iterator[AnyImage]:
        if self.source_file is None:
            yield editor.image
            return
        here = editor.image.storage.path
        there = here is not None and os.path.exists(self.source_file)
        if there and os.path.samefile(here or "", self.source_file):  # locked by ourselves
            yield editor.image
            return
        with open_image(self.source_file, format=self.source_format) as other:
            yield other


@contextmanager
def _named(operation: str, name: str) -> Iterator[None]:
    """Say, as qemu-img does, which operation on which bitmap could not be done."""
    try:
        yield
    except (EditRefused, NotFoundError, UsageError) as error:
        kind: type[QcowError] = type(error)
        raise kind(f"Operation {operation} on bitmap {safe(name)} failed: {error}") from error


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _find(image: Image, name: str) -> BitmapEntry | None:
    raw = _raw(name)
    bitmaps = image.bitmaps if image.bitmaps_valid else ()
    return next((entry for entry in bitmaps if entry.name == raw), None)


def _present(image: Image, name: str) -> BitmapEntry:
    found = _find(image, name)
    if found is None:
        raise _not_found(name)
    return found


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(f"Dirty bitmap '{safe(name)}' not found")


def _begin(
    editor: Editor, name: str, *, any_state: bool = False
) -> tuple[Transaction, BitmapEntry]:
    """A transaction and the entry of bitmap ``name`` in it; a consistent one if not any_state."""
    entry = _present(editor.image, name)
    if not any_state:
        require_consistent(entry)
    return editor.begin(), entry


def _set_recording(editor: Editor, name: str, wanted: bool) -> None:
    tx, entry = _begin(editor, name)
    flags = entry.flags | BITMAP_AUTO if wanted else entry.flags & ~BITMAP_AUTO
    tx.bitmaps[tx.bitmaps.index(entry)] = replace(entry, flags=flags)
    editor.commit(tx)


def _require_new(image: Image, name: str) -> None:
    """Raise unless a bitmap of this name can be added, by what QEMU asks for, in its order."""
    if not name:
        raise UsageError("Bitmap name cannot be empty")
    if _find(image, name) is not None:
        raise EditRefused(f"Bitmap already exists: {safe(name)}")
    if image.header.version < 3:
        raise _not_persistent(image, name, "Cannot store dirty bitmaps in qcow2 v2 files")
    if len(_raw(name)) > MAX_NAME:
        raise _not_persistent(image, name, f"Name length exceeds maximum ({MAX_NAME} characters)")
    if len(image.bitmaps) >= MAX_BITMAPS:
        raise _not_persistent(
            image, name, "Maximum number of persistent bitmaps is already reached"
        )
    if image.virtual_size == 0:
        raise _not_persistent(image, name, "The disk has no bytes to record changes of")


def _not_persistent(image: Image, name: str, why: str) -> EditRefused:
    return EditRefused(
        f"Can't make bitmap '{safe(name, MAX_NAME)}' persistent in '{safe(image.name)}': {why}"
    )


def _stale(image: Image) -> tuple[str, ...]:
    if image.bitmaps_valid or not image.bitmaps:
        return ()
    return (
        f"Forgets {plural(len(image.bitmaps), 'bitmap')} that a program without bitmap support "
        "made worthless; check -r leaks frees their clusters.",
    )


def _dirty_bytes(editor: Editor, entry: BitmapEntry) -> int:
    """Guest bytes that are marked in a consistent bitmap of the present image."""
    return sum(int((r.end - r.start).sum()) for r in dirty_ranges(editor.image, entry))
