"""Where the journal of an image lies, and the finding that one waits there."""

from __future__ import annotations

import os
import stat

from ..errors import StorageError
from ..findings import Finding, Severity, kind
from ..record import record
from ..storage.local import reason
from ..text import safe
from .folder import UNFINISHED, Folder, LocalFolder, state_folder

SUFFIX = ".qcowtui-journal"
_LONGEST_NAME = 255

JOURNAL_PENDING = kind(
    "QCOW-JOURNAL-PENDING",
    Severity.WARNING,
    "an unfinished change waits in a journal",
    "A change that needs more than one sector was decided and written to a journal, and the "
    "program or the machine stopped before the journal was removed.",
    "The header of the image may be half old and half new, so what is shown here can be wrong. "
    "Nothing is lost: the journal holds the whole change.",
    "Open the image for writing with qcowtui: it completes the change, or says why it cannot. "
    "Do not delete or move the journal, and do not write to the image with another program.",
)


@record
class JournalPlace:
    """One file name at which the journal of one image is looked for."""

    folder: Folder
    name: str
    #: Whether the journal must name the image's inode.  It does for files, so that neither a copy
    #: nor a forged file that came with an image is taken for one; devices get new ones at start-up.
    bound_to_inode: bool = True
    #: How many names (hard links) the image has: a journal is found from one of them only.
    image_names: int = 1
    #: The folder to make, the user's own, before a journal is written; None: it is there.
    to_make: str | None = None

    @property
    def shown(self) -> str:
        return self.folder.shown(self.name)

    def has_anything(self) -> bool:
        """Whether a journal lies there or one that was never finished."""
        return self.waits() or self.folder.exists(self.name + UNFINISHED)

    def waits(self) -> bool:
        """Whether something lies there; nothing is opened."""
        return self.folder.exists(self.name)


def places_of(
    image_path: str, journal_folder: str | None = None
) -> tuple[JournalPlace, JournalPlace]:
    """Where a journal of the image may lie: the place for a new one, and the other one.

    Beside the image (beside the file itself, when the path is a link) or in the user's state
    folder: there for devices and where the folder of the image cannot be written to.  With
    ``journal_folder`` a new one is put there.  Nothing is made or opened.

    Raises StorageError when the image cannot be found.
    """
    import hashlib  # looking at an image asks for the places of its journal: not before that

    real = os.path.realpath(image_path)
    try:
        found = os.stat(real)
    except (OSError, ValueError) as error:
        raise StorageError(f"Could not find '{safe(image_path)}': {reason(error)}") from error
    folder, base = os.path.split(real)
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()
    bound = not stat.S_ISBLK(found.st_mode)
    beside = base + SUFFIX
    if len(os.fsencode(beside)) > _LONGEST_NAME:
        beside = f".{digest[:32]}{SUFFIX}"
    apart = journal_folder or os.path.join(state_folder(), "journal")
    near = JournalPlace(LocalFolder(folder), beside, bound, found.st_nlink)
    # Apart from the image the digest keeps two images of one name apart.
    made = None if journal_folder else apart
    far = JournalPlace(LocalFolder(apart), f"{digest[:32]}{SUFFIX}", bound, found.st_nlink, made)
    if journal_folder or not bound or not os.access(folder, os.W_OK):
        return far, near
    return near, far


def pending(image_path: str, journal_folder: str | None = None) -> Finding | None:
    """That a journal of this image waits, for those who only look; nothing is opened or changed."""
    try:
        waiting = [place for place in places_of(image_path, journal_folder) if place.waits()]
    except StorageError:
        return None
    if not waiting:
        return None
    return Finding(
        JOURNAL_PENDING,
        f"A change of this image was not finished; its journal is '{waiting[0].shown}'.",
        structure="journal",
        examples=tuple(place.shown for place in waiting),
    )
