"""The single gate: whether and how a *second* file (backing file, data file) is opened.

The name of such a file comes out of an image, and whoever made the image chose it.  A gate holds
what the user has granted; every open of a second file goes through :meth:`Gate.open_reference`, and
nothing above this module ever opens one by itself.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from enum import Enum
from typing import Literal, Self

from ..errors import NotRegularFile, ReferenceMissing, ReferenceRefused, StorageError
from ..record import record
from ..text import safe
from .base import Storage
from .local import OPEN_FLAGS, LocalFile, reason, unreadable_kind

Purpose = Literal["backing file", "data file"]

#: Trees in which opening or reading a file makes the kernel do something.
_KERNEL_TREES = ("/proc", "/sys")
#: Symbolic links followed in one path, as Linux has it.
_MAX_LINKS = 40
_EXCHANGED = "it was exchanged for something else while it was being opened"
#: For walking: a folder is only passed through, and a link never.
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Policy(Enum):
    """How far a gate lets references lead."""

    CLOSED = "closed"  # nowhere
    OWN_FOLDER = "own folder"  # backing files beside the image
    FOLDERS = "folders"  # files inside folders the user trusts
    FOLLOW = "follow"  # any local file or block device


def has_protocol(name: bytes) -> bool:
    """QEMU's rule: a ``:`` before the first ``/`` makes a name a protocol (``nbd:``, ``json:``)."""
    return b":" in name.partition(b"/")[0]


def combine(containing_path: str, name: bytes) -> str:
    """The path a reference means, as QEMU puts it together, with no judgement about it.

    A relative name is relative to the folder in the path the containing image was opened by;
    neither is normalised.  An absolute name or a protocol name is the result itself.
    """
    if has_protocol(name) or name.startswith(b"/"):
        return os.fsdecode(name)
    return containing_path[: containing_path.rfind("/") + 1] + os.fsdecode(name)


def resolve(containing_path: str, name: bytes) -> str:
    """:func:`combine` for names that can be local files.

    Raises ReferenceRefused for an empty name, a protocol or ``json:`` name, NUL and other control
    characters (QEMU cuts a name at NUL: it would open another file than the one judged here).
    """
    flaw = _flaw(name)
    if flaw:
        raise ReferenceRefused(f"The name '{safe(name)}' is not followed: {flaw}.")
    return combine(containing_path, name)


def leads_outside(containing_path: str | None, name: bytes) -> str | None:
    """Why ``name`` does not simply mean a file in the image's own folder, as a phrase, or None.

    Judged by the text alone: nothing is opened or looked up, so links are not noticed here.
    """
    flaw = _flaw(name)
    if flaw:
        return flaw
    folder = os.path.dirname(os.path.abspath(containing_path or "image"))
    path = os.path.normpath(combine(os.path.join(folder, "image"), name))
    if os.path.commonpath((folder, path)) != folder:
        return "it lies outside the image's own folder"
    return None


def same_file(containing: Storage, name: bytes, other: bytes | None = None) -> bool:
    """Whether ``name`` means the containing image itself, or the same file as ``other``.

    The file system is asked; nothing is opened.  A name that is no local path means neither.
    """
    if containing.path is None or _flaw(name) or (other is not None and _flaw(other)):
        return False
    try:
        status = os.stat(combine(containing.path, name))
        if other is None:
            return (status.st_dev, status.st_ino) == containing.identity()
        return os.path.samestat(status, os.stat(combine(containing.path, other)))
    except OSError:
        return False


def _flaw(name: bytes) -> str | None:
    if not name:
        return "it is empty"
    if any(byte < 0x20 or byte == 0x7F for byte in name):
        return "it holds control characters"
    if name.startswith(b"json:"):
        return "a json: name can make QEMU open anything, so it is never followed"
    if has_protocol(name):
        return f"it names the protocol '{safe(name.partition(b':')[0])}', which is never followed"
    return None


@record
class Gate:
    """What may be opened beside the image itself.  Made by one of the four class methods."""

    policy: Policy
    folders: tuple[str, ...] = ()  # for Policy.FOLDERS

    @classmethod
    def closed(cls) -> Self:
        """Nothing: for opening, info, check, audit and the app."""
        return cls(Policy.CLOSED)

    @classmethod
    def own_folder(cls) -> Self:
        """A backing file that is a regular file in the folder of the image naming it (or below).

        Its format must be stated.  For verbs that ask for guest data.
        """
        return cls(Policy.OWN_FOLDER)

    @classmethod
    def trusting(cls, folders: Iterable[str | os.PathLike[str]]) -> Self:
        """Regular files inside ``folders``, which the user granted for good."""
        return cls(Policy.FOLDERS, tuple(os.path.abspath(folder) for folder in folders))

    @classmethod
    def follow(cls) -> Self:
        """Any local regular file or block device: the explicit ``--follow``."""
        return cls(Policy.FOLLOW)

    def why_not(
        self, containing: Storage, name: bytes, stated_format: bytes | None, purpose: Purpose
    ) -> str | None:
        """The sentence :meth:`open_reference` would refuse with, or None; opens nothing.

        None is no promise that the file exists.
        """
        try:
            self._permitted(containing, name, stated_format, purpose)
        except ReferenceRefused as refused:
            return str(refused)
        except ReferenceMissing:
            return None
        return None

    def open_reference(
        self, containing: Storage, name: bytes, stated_format: bytes | None, purpose: Purpose
    ) -> LocalFile:
        """Open the file that the image in ``containing`` refers to by ``name``.

        ``stated_format`` is the format the image states for it, None when it states none.  The name
        of the result is the path as QEMU puts it together.

        Raises ReferenceRefused when this gate does not let it pass, ReferenceMissing when it does
        but the file cannot be opened.
        """
        shown, real = self._permitted(containing, name, stated_format, purpose)
        try:
            opened = LocalFile(_open_without_links(real), shown)
        except NotRegularFile as error:
            raise _refused(purpose, shown, _EXCHANGED, hopeless=True) from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise _refused(purpose, shown, _EXCHANGED, hopeless=True) from error
            raise _missing(purpose, shown, error) from error
        if opened.is_device and self.policy is not Policy.FOLLOW:
            opened.close()
            raise _refused(purpose, shown, _EXCHANGED, hopeless=True)
        return opened

    def _permitted(
        self, containing: Storage, name: bytes, stated_format: bytes | None, purpose: Purpose
    ) -> tuple[str, str]:
        """The path as QEMU puts it together, and the link-free path that may be opened."""
        flaw = _flaw(name)
        if flaw:
            raise _refused(purpose, name, flaw, hopeless=True)
        if self.policy is Policy.CLOSED:
            raise _refused(purpose, name, "only the image itself is looked at")
        if containing.path is None:
            raise _refused(purpose, name, "the image has no folder to find it from", hopeless=True)
        if self.policy is Policy.OWN_FOLDER:
            if purpose != "backing file":
                raise _refused(purpose, name, "only backing files are followed unasked")
            if not stated_format:
                raise _refused(purpose, name, "the image does not state its format")
        shown = combine(containing.path, name)
        place = _real_place(shown)
        if place.of_kernel:
            why = "it leads through files of the kernel, which are never followed"
            raise _refused(purpose, shown, why, hopeless=True)
        if self.policy is Policy.OWN_FOLDER:
            if not _is_within(place, [os.path.dirname(containing.path)]):
                raise _refused(purpose, shown, "it lies outside the image's own folder")
        elif self.policy is Policy.FOLDERS and not _is_within(place, self.folders):
            raise _refused(purpose, shown, "it lies outside the folders you trust")
        if place.error:  # only now: where it may not lead, nobody learns whether a file is there
            raise _missing(purpose, shown, place.error) from place.error
        kind = unreadable_kind(place.mode)
        if kind:
            raise _refused(purpose, shown, f"it is {kind}", hopeless=True)
        if self.policy is not Policy.FOLLOW and not stat.S_ISREG(place.mode):
            raise _refused(purpose, shown, "it is a block device")
        return shown, place.path


def _refused(
    purpose: Purpose, name: bytes | str, why: str, *, hopeless: bool = False
) -> ReferenceRefused:
    remedy = "--follow does not change that" if hopeless else "--follow allows it"
    return ReferenceRefused(f"The {purpose} '{safe(name)}' is not opened: {why} ({remedy}).")


def _missing(purpose: Purpose, path: str, error: OSError) -> ReferenceMissing:
    return ReferenceMissing(f"Could not open the {purpose} '{safe(path)}': {reason(error)}.")


def _is_inside(folder: str, path: str) -> bool:
    return os.path.commonpath((folder, path)) == folder


def _is_within(place: _Place, folders: Iterable[str]) -> bool:
    roots = map(_real_place, folders)
    # A folder of the kernel (an image opened as /dev/fd/N) has nothing beside it to be trusted.
    usable = (root for root in roots if not root.error and not root.of_kernel)
    return any(_is_inside(root.path, place.path) for root in usable)


@record
class _Place:
    """Where a path leads."""

    path: str  # absolute, links resolved as far as they could be
    mode: int  # st_mode of what is there
    of_kernel: bool  # somewhere on the way it passes through /proc or /sys
    error: OSError | None  # why there is nothing


def _real_place(path: str) -> _Place:
    """Follow ``path`` without opening anything.

    Component by component, because a link may lead *through* /proc to somewhere harmless-looking
    (``/dev/fd/3``).
    """
    at, mode, links = "/", stat.S_IFDIR, 0
    pending = path.split("/")[::-1]
    try:
        if not path.startswith("/"):
            pending += os.getcwd().split("/")[::-1]
        while pending:
            if not stat.S_ISDIR(mode):  # so "file/" and "file/.." are as wrong as for the kernel
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            part = pending[-1]
            step = os.path.normpath(os.path.join(at, part))
            if any(_is_inside(tree, step) for tree in _KERNEL_TREES):
                return _Place(step, mode, True, None)
            found = os.lstat(step).st_mode
            pending.pop()
            if not stat.S_ISLNK(found):
                at, mode = step, found
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(step)
            if target.startswith("/"):
                at = "/"
            pending += target.split("/")[::-1]
    except OSError as error:
        rest = os.path.normpath(os.path.join(at, *pending[::-1]))
        return _Place(rest, 0, False, error)
    return _Place(at, mode, False, None)


def _open_without_links(real: str) -> int:
    """Open an absolute path in which no component may be a symbolic link.  OSError when one is.

    Step by step from the root, so that a component exchanged for a link after it was judged is
    found out instead of followed.
    """
    *folders, leaf = real.split("/")[1:]
    at = os.open("/", _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        return os.open(leaf, OPEN_FLAGS | os.O_NOFOLLOW, dir_fd=at)
    finally:
        os.close(at)


def list_candidates(
    folder: str | os.PathLike[str], limit: int, *, follow_links: bool = False
) -> list[str]:
    """Paths of at most ``limit`` regular files in ``folder``, by name; none of them is opened.

    For finding dependents and for a picker.  Symbolic links to regular files count only with
    ``follow_links``.  Folders below are not entered.  With more files than ``limit`` it is the
    first ones the system lists.  Raises StorageError when the folder cannot be listed.
    """
    paths: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(paths) >= limit:
                    break
                if _is_regular(entry, follow_links):
                    paths.append(entry.path)
    except (OSError, ValueError) as error:
        shown = safe(os.fsdecode(folder))
        raise StorageError(f"Could not list '{shown}': {reason(error)}") from error
    return sorted(paths)


def _is_regular(entry: os.DirEntry[str], follow_links: bool) -> bool:
    try:
        return entry.is_file(follow_symlinks=follow_links)
    except OSError:  # a link that loops
        return False
