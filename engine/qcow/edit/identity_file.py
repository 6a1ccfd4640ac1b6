"""The external data file of an image under change: guest offset and host offset are the same.

(That is QEMU's mapping; qcow2 spec, "External data file".)  Nothing counts its clusters, so data is
written in place, and no switch or undo covers what is overwritten there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import EditRefused
from ..layout.tables import U64
from ..text import safe
from .entries import allocated

if TYPE_CHECKING:
    from .editor import Editor


class IdentityFile:
    """Writes to the data file and notes what that costs; in a dry run it only notes.

    ``written``: bytes.  ``overwrote``: whether bytes changed that the image shows already.
    ``size``: the disk's, behind which nothing is written.
    """

    def __init__(self, editor: Editor, size: int) -> None:
        """Raises EditRefused when the file is not open for writing and this is no dry run."""
        self._file = None if editor.dry else editor.data_file
        self._raw = editor.image.data_file_raw
        self._bits = editor.image.header.cluster_bits
        self._size = size
        self.written = 0
        self.overwrote = False
        self._given_up: list[tuple[int, int]] = []  # (start, length), for after the switch
        if self._file is None and not editor.dry:
            raise EditRefused(
                f"The external data file of '{safe(editor.image.name)}' is not open for writing: "
                "allow references to be followed."
            )

    def write(self, offset: int, length: int, data: memoryview | None) -> None:
        """Write ``data``, or note ``length`` bytes in a dry run."""
        length = min(length, self._size - offset)
        self.written += length
        if data is not None and self._file is not None:
            self._file.write(offset, data[:length])

    def zero_now(self, offset: int, length: int) -> None:
        """In a raw data file, a disk of its own, what reads as zeros must be zeros: do it."""
        length = min(length, self._size - offset)
        if not self._raw or length <= 0:
            return
        self.overwrote = True
        self.written += length
        if self._file is not None:
            self._file.punch(offset, length)

    def note_overwriting(self, entries: U64) -> None:
        """Clusters mapped by ``entries`` are about to be written."""
        self.overwrote |= self._raw or bool(allocated(entries, external=True).any())

    def give_up(self, first: int, entries: U64) -> None:
        """Guest clusters from ``first`` on, mapped by ``entries``, are about to be unmapped."""
        if self._raw:
            return  # zeroed at once
        there = allocated(entries, external=True)
        edges = np.flatnonzero(np.diff(there, prepend=False, append=False)).reshape(-1, 2)
        for low, high in edges.tolist():
            start = (first + low) << self._bits
            self._given_up.append((start, min((high - low) << self._bits, self._size - start)))

    @property
    def releases(self) -> bool:
        """Whether :meth:`release` gives away what undo would need."""
        return bool(self._given_up)

    def flush(self) -> None:
        """Make durable what was written."""
        if self.written and self._file is not None:
            self._file.flush()

    def release(self) -> None:
        """Punch what was given up."""
        if self._file is None or not self._given_up:
            return
        for start, length in self._given_up:
            self._file.punch(start, length)
        self._file.flush()
