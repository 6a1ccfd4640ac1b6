"""Undo and redo: which earlier states of an image can still be gone back to.

Changing an image leaves what its old root reached untouched, so going back is one switch.  It is
possible until the clusters of the old root are given up (*reclaim*) or another program writes.

Each switch is announced durably before it is made and reported after it, so that a crash between
the two leaves no wrong history: :meth:`History.load` compares the image with both ends of an
announced switch.  The order of the caller, who holds the writer locks::

    history = History.load(path, storage, generation)
    if history.valid_for(storage, generation): history.forget(...)
    history.begin()                      # before the first write to a free cluster
    ... write, flush, check ...
    history.prepare(entry)               # or prepare_undo(), prepare_redo()
    ... the switch, flush; then an unusual_mtime(), and that made durable too ...
    history.done(mark_of(storage, generation))
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

from ..errors import EditRefused
from ..record import replace
from ..storage.base import Storage
from ..text import safe
from .folder import Folder
from .history_entry import Entry, Mark, Note, digest_of_sector, mark_of
from .history_file import (
    MAX_NOTES,
    Direction,
    Record,
    Subject,
    file_name,
    private_undo_folder,
    read_record,
    subject_of,
    undo_folder,
    write_record,
)
from .patch import Patch, is_at, reversed_switch

#: Asked only when the cheap marks cannot decide: see Mark.generation.
Generation = Callable[[], bytes]

_BILLION = 1_000_000_000
_FOREIGN_STEP = "another program changed it while a change of qcowtui was unfinished"


def unusual_mtime() -> int:
    """A modification time of now with random nanoseconds, in ns since the epoch.

    Set after a switch, so that any later write is noticed, even within one tick of the clock that
    file systems take their times from.
    """
    return time.time_ns() // _BILLION * _BILLION + secrets.randbelow(_BILLION)


class History:
    """The undo stack of one image.  Made by :meth:`load`."""

    def __init__(self, subject: Subject, record: Record, folder: Folder | None) -> None:
        """``folder`` None means the user's state folder, made when something is written."""
        self._subject = subject
        self._record = record
        self._folder = folder
        #: Why the file could not be used, a sentence; the history is then empty.
        self.damaged: str | None = None
        self._unexplained: str | None = None

    @classmethod
    def load(
        cls,
        path: str | Subject,
        storage: Storage,
        generation: Generation,
        folder: Folder | None = None,
    ) -> History:
        """The history of the image at ``path``, empty when there is none or it cannot be used.

        Nothing is written.  A journal that waits has to be recovered before.  Raises StorageError
        when the image cannot be read.
        """
        subject = subject_of(path) if isinstance(path, str) else path
        record, damaged = read_record(folder or undo_folder(), subject)
        history = cls(subject, record, folder)
        history.damaged = damaged
        history._settle(storage, generation)
        return history

    # What can be done

    @property
    def undoable(self) -> Entry | None:
        """The entry that undo takes back; whether it may: :meth:`valid_for`."""
        return self._record.entries[self._record.position - 1] if self._record.position else None

    @property
    def redoable(self) -> Entry | None:
        """The entry that redo brings back."""
        below = self._record.entries[self._record.position :]
        return below[0] if below else None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Oldest first; those from :attr:`position` on were taken back."""
        return self._record.entries

    @property
    def position(self) -> int:
        return self._record.position

    @property
    def notes(self) -> tuple[Note, ...]:
        """When and why entries were given up, oldest first."""
        return self._record.notes

    def undo_patches(self) -> tuple[Patch, ...]:
        """The switch that undo makes.  Raises EditRefused when there is nothing to undo."""
        return reversed_switch(self._must(self.undoable, "undo").patches)

    def redo_patches(self) -> tuple[Patch, ...]:
        """The switch that redo makes.  Raises EditRefused when there is nothing to redo."""
        return self._must(self.redoable, "redo").patches

    def held_roots(self) -> tuple[bytes, ...]:
        """Each sector 0 (512 bytes) that can be gone back or forward to, without repetition.

        No cluster that one of them reaches may be written or given back.  The present one is among
        them when there are entries.  Damaged ones are not: see :attr:`held_below`.
        """
        sectors = (
            sector
            for entry in self._kept()
            for sector in (*(() if entry.held_below else (entry.old_sector,)), entry.new_sector)
        )
        return tuple(dict.fromkeys(sectors))

    @property
    def held_below(self) -> int:
        """Bytes from the start of the file that damaged roots may need, whatever they count."""
        return max((entry.held_below for entry in self._kept()), default=0)

    def _kept(self) -> tuple[Entry, ...]:
        announced = (self._record.new,) if self._record.new else ()
        return (*self._record.entries, *announced)

    def valid_for(self, storage: Storage, generation: Generation) -> str | None:
        """Why nothing can be undone or redone, a sentence; None when something can.

        With entries, a sentence means that they are worthless: :meth:`forget` them.
        """
        if self.damaged:
            return self.damaged
        if self._unexplained is None and (not self._record.entries or self._record.left is None):
            return self._nothing("undo")
        why = self.why_worthless(storage, generation)
        return why and f"'{safe(self._subject.path)}' cannot be undone: {why}."

    def why_worthless(self, storage: Storage, generation: Generation) -> str | None:
        """What happened to the image that makes the entries worthless, a phrase, or None."""
        if self._unexplained is not None:
            return self._unexplained
        if not self._record.entries or self._record.left is None:
            return None
        return self._why_changed(storage, self._record.left, generation)

    def why_not_undo(self, storage: Storage, generation: Generation) -> str | None:
        """Why undo is impossible, a sentence; None when it is possible."""
        why = self.valid_for(storage, generation)
        return why if why or self.undoable else self._nothing("undo")

    def why_not_redo(self, storage: Storage, generation: Generation) -> str | None:
        """Why redo is impossible, a sentence; None when it is possible."""
        if not self.damaged and not self.redoable:
            return self._nothing("redo")
        return self.valid_for(storage, generation)

    # What is done.  Each is durable on return; EditRefused or StorageError when it could not be
    # made so.  ValueError for going on with entries that valid_for() found worthless at loading.

    def begin(self) -> None:
        """Announce writes to free clusters: after a crash they are no foreign ones."""
        if self._record.entries and self._record.step is None:
            self._save(replace(self._record, step=Direction.WRITE))

    def prepare(self, entry: Entry) -> None:
        """Announce a new change.  The entries taken back are given up when it is done."""
        self._save(replace(self._record, step=Direction.DO, new=entry))

    def prepare_undo(self) -> Entry:
        """Announce that the last change is taken back; the entry."""
        entry = self._must(self.undoable, "undo")
        self._save(replace(self._record, step=Direction.UNDO, new=None))
        return entry

    def prepare_redo(self) -> Entry:
        """Announce that the change taken back last is made again; the entry."""
        entry = self._must(self.redoable, "redo")
        self._save(replace(self._record, step=Direction.REDO, new=None))
        return entry

    def done(self, mark: Mark, *, joined: bool = False) -> None:
        """The announced switch was made and left the image like ``mark``.

        ``joined``: the new entry and the one before it become one (batches of one long change).
        """
        self._save(replace(self._record.stepped(joined=joined), left=mark))

    def abandoned(self, mark: Mark) -> None:
        """No switch was made, and the image was left like ``mark``.

        When sector 0 in ``mark`` is not the one from before the switch that was announced, nothing
        is noted: whether it took place is found out at the next loading.
        """
        moving, undo = self._record.moving, self._record.step is Direction.UNDO
        if moving is not None:
            start = moving.new_sector if undo else moving.old_sector
            if mark.sector != hashlib.sha256(start).digest():
                return
        record = self._record.not_stepped()
        self._save(replace(record, left=mark if record.entries else None))

    def forget(self, reason: str) -> None:
        """Give up every entry, for a ``reason`` that the list of the history shows (a sentence)."""
        if self._record.entries or self._record.new or self.damaged:
            self._save(self._without_entries(reason))

    def without_entries(self, reason: str) -> History:
        """What would be left after :meth:`forget`; nothing is written."""
        return History(self._subject, self._without_entries(reason), self._folder)

    def without_redo(self) -> History:
        """Without the entries that were taken back, as after a new change; nothing is written."""
        entries = self._record.entries[: self._record.position]
        return History(self._subject, replace(self._record, entries=entries), self._folder)

    def _must(self, entry: Entry | None, what: str) -> Entry:
        if entry is None:
            raise EditRefused(self._nothing(what))
        return entry

    def _nothing(self, what: str) -> str:
        sentence = f"There is nothing to {what} in '{safe(self._subject.path)}'"
        if self.notes and not self.entries:
            note = self.notes[-1]
            return f"{sentence}: {safe(note.reason).rstrip('.')} ({when(note.time_ns)})."
        return f"{sentence}."

    def _without_entries(self, reason: str) -> Record:
        commands = tuple(entry.command for entry in self._record.entries)
        note = Note(time.time_ns(), reason, commands)
        return Record(self._subject.file[1], notes=(*self.notes, note)[-MAX_NOTES:])

    def _save(self, record: Record) -> None:
        if self._unexplained and record.entries:
            raise ValueError("entries that another program made worthless are forgotten first")
        if self._folder is None:
            self._folder = private_undo_folder()
        name = file_name(self._subject)
        if self.damaged and self._folder.exists(name):
            self._folder.rename(name, f"{name}.damaged")  # it may be of use to a person
        if not self._record.entries:
            record = replace(record, inode=self._subject.file[1])
        write_record(self._folder, self._subject, record)
        self.damaged = None
        self._unexplained = None
        self._record = record

    def _settle(self, storage: Storage, generation: Generation) -> None:
        """Find out whether a switch that was announced and not reported took place."""
        record = self._record
        if record.step is None:
            return
        moving = record.moving
        if moving is None:
            self._adopt(record.not_stepped(), storage, generation)
            return
        undo = record.step is Direction.UNDO
        start, goal = ("after", "before") if undo else ("before", "after")
        if is_at(storage, moving.patches, goal):
            expected = moving.old_generation if undo else moving.new_generation
            mark = self._mark_if(storage, generation, expected)
            self._record = replace(record.stepped(), left=mark or record.left)
            if mark is None:
                self._unexplained = _FOREIGN_STEP
        elif is_at(storage, moving.patches, start):
            self._adopt(record.not_stepped(), storage, generation)
        else:
            self._record = record.not_stepped()
            self._unexplained = _FOREIGN_STEP

    def _adopt(self, record: Record, storage: Storage, generation: Generation) -> None:
        """No switch took place; what was written before it only went to free clusters."""
        self._record = record
        if record.left is None:
            return
        mark = None
        if digest_of_sector(storage) == record.left.sector:
            mark = self._mark_if(storage, generation, record.left.generation)
        if mark is None:
            self._unexplained = _FOREIGN_STEP
        else:
            self._record = replace(record, left=mark)

    def _mark_if(self, storage: Storage, generation: Generation, expected: bytes) -> Mark | None:
        found = generation()
        return mark_of(storage, found) if found == expected else None

    def _why_changed(self, storage: Storage, left: Mark, generation: Generation) -> str | None:
        size, mtime_ns = storage.modified()
        if not self._subject.is_device and self._record.inode != self._subject.file[1]:
            return f"it was replaced by another file (written {when(mtime_ns)})"
        same = (size, digest_of_sector(storage)) == (left.size, left.sector)
        if self._subject.is_device:  # the time of a device says nothing about its contents
            if same and generation() == left.generation:
                return None
            return "another program changed it since"
        if not same or mtime_ns != left.mtime_ns:
            return f"another program changed it at about {when(mtime_ns)}"
        return None


def when(time_ns: int) -> str:
    """A time for people: local, to the second."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // _BILLION))
    except (OverflowError, ValueError, OSError):
        return "an unknown time"
