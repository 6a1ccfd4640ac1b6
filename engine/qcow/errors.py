"""The typed errors of the engine.

Every error carries one clear sentence for a person (what, where, what to do); whatever in that
sentence came out of an image has already passed through :func:`qcow.text.safe`.  ``exit_code`` is
what a command line ends with when nothing catches the error (qemu-img's numbers).
"""

from __future__ import annotations

from typing import ClassVar


class QcowError(Exception):
    """Base of every error this engine raises on purpose."""

    exit_code: ClassVar[int] = 1


class StorageError(QcowError):
    """The operating system refused a read, an open or a seek."""


class NoSpaceError(StorageError):
    """The host's file system (or quota, or device) has no room for a write."""


class NotRegularFile(StorageError):
    """The path is a FIFO, socket, character device or directory, which is never opened."""


class ShortRead(StorageError):
    """Bytes that should exist lie beyond the end of the file."""


class LockedError(QcowError):
    """Another process holds QEMU's lock bytes in a way that excludes this use."""


class FormatError(QcowError):
    """An on-disk structure cannot be decoded; the message names the field and its value."""


class UnsupportedFormat(QcowError):
    """The file is recognised as a format that this version cannot read."""


class GuestDataError(QcowError):
    """Guest bytes were asked for that cannot be had; the message says which and why."""


class EncryptedError(GuestDataError):
    """Guest bytes are encrypted and no key was given.  Ciphertext is never returned as data."""


class ReferenceRefused(QcowError):
    """A second file (backing file, data file) would have to be opened and may not be."""


class ReferenceMissing(QcowError):
    """A second file may be opened and is not there, loops, or is not what it should be."""


class NotFoundError(QcowError):
    """A named thing (snapshot, bitmap, layer) does not exist in this image."""


class UsageError(QcowError):
    """The request itself makes no sense (a range beyond the disk, a malformed size)."""


class EditRefused(QcowError):
    """The change may not be made to this image; the message says why and what would help."""


class ChangedError(QcowError):
    """The image is no longer the one the plan was made on."""


class VerificationError(QcowError):
    """The prepared result failed its check, so it was not made live; the image is the old one."""


class IndeterminateError(StorageError):
    """The switch was written and could not be made durable: the image is the old or the new one.

    Both are complete and clean; opening the image again tells which it is.
    """


class Cancelled(QcowError):
    """The caller's cancel token was set; nothing is half done."""
