"""Making a prepared change live: one write of the first 512 bytes, or the journal where it must."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..errors import ChangedError, IndeterminateError, StorageError
from ..layout.header_switch import HeaderSwitch
from ..storage.base import Storage, WritableStorage
from .patch import SECTOR, Patch


class JournalSwitch(Protocol):
    """Makes a switch that one sector cannot hold (:mod:`qcow.edit.journal_switch`)."""

    def __call__(self, patches: tuple[Patch, ...], command: str) -> None: ...


def write_before(storage: WritableStorage, switch: HeaderSwitch) -> None:
    """Write what means nothing to the old header yet, and make all durable that was written."""
    for patch in switch.pre_writes:
        if storage.read(patch.offset, len(patch.before)) != patch.before:
            raise _changed()
        storage.write(patch.offset, patch.after)
    storage.flush()


def write_switch(
    storage: WritableStorage, patches: tuple[Patch, ...], journal: JournalSwitch, command: str = ""
) -> None:
    """Make the change live and durable.  ``command`` is told when a crash interrupts the journal.

    Raises ChangedError when the live bytes are not those the change was prepared on,
    IndeterminateError when the switch was written, or some of it, and that or its flush failed.
    """
    if len(patches) != 1 or patches[0].end > SECTOR:
        with _undisturbed():
            journal(patches, command)
        return
    patch = patches[0]
    if storage.read(patch.offset, len(patch.before)) != patch.before:
        raise _changed()
    with _undisturbed():
        try:
            storage.write(patch.offset, patch.after)
        except StorageError as error:
            if storage.read(patch.offset, len(patch.before)) == patch.before:
                raise
            raise IndeterminateError(
                "The system stopped in the middle of writing the change's one sector. The image is "
                f"the old one or the new one: open it again and check it. ({error})"
            ) from error
        try:
            storage.flush()
        except StorageError as error:
            raise IndeterminateError(
                "The change was written, and the system could not say that it is durable. The "
                f"image is the old one or the new one, both complete: open it again. ({error})"
            ) from error


def sector_0(storage: Storage) -> bytes:
    """The first 512 bytes, filled up with zeros where the file is shorter."""
    return storage.read(0, SECTOR).ljust(SECTOR, b"\0")


def _changed() -> ChangedError:
    return ChangedError(
        "The image's header is no longer the one the change was prepared on: nothing was changed. "
        "Open the image again."
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and a polite kill wait until the switch is through."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
