"""Looking up the chain: which images in some folders need this file to be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ..errors import QcowError, ReferenceRefused
from ..image.image import Image
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.constants import MAGIC
from ..record import record
from ..storage.gate import Purpose, list_candidates, resolve
from ..storage.identity import identity_of
from ..storage.local import open_local

#: Files looked at in one folder.
MAX_CANDIDATES = 10_000

Identity = tuple[int, int]


@record
class Dependent:
    """An image that refers to ``parent`` (paths are raw text).  ``distance`` 1 is a direct one."""

    path: str
    parent: str
    purpose: Purpose
    distance: int


@record
class DependentSearch:
    """``found`` lists parents before children, otherwise in the order of the folders.

    ``unreadable`` are candidates that could not be looked at.
    """

    found: tuple[Dependent, ...]
    images: int  # qcow2 images that were looked at
    unreadable: tuple[str, ...]


def dependents(
    path: str | os.PathLike[str],
    folders: Iterable[str | os.PathLike[str]],
    *,
    limit: int = MAX_CANDIDATES,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> DependentSearch:
    """Images in ``folders`` whose backing or data file is ``path``, and those that need these.

    Only the header of each candidate is read, without a lock, so live images are found as well.
    Names are compared by the file they lead to (links and other names of it count); nothing a
    candidate refers to is opened.  At most ``limit`` files are looked at in a folder, and folders
    below are not entered.

    Raises StorageError when a folder cannot be listed, Cancelled.
    """
    target = identity_of(path)
    users: dict[Identity, list[tuple[str, Identity, Purpose]]] = {}
    unreadable: list[str] = []
    candidates = [c for folder in folders for c in list_candidates(folder, limit)]
    report = Throttle(progress)
    seen: set[Identity] = set()
    images = 0
    for number, candidate in enumerate(candidates, 1):
        if cancel is not None:
            cancel.check()
        try:
            looked = _references(candidate)
        except QcowError:
            unreadable.append(candidate)
        else:
            if looked is not None and looked[0] not in seen:
                own, references = looked
                seen.add(own)
                images += 1
                for identity, purpose in references:
                    users.setdefault(identity, []).append((candidate, own, purpose))
        report("searching", number, len(candidates), "files")
    found = () if target is None else tuple(_closure(os.fspath(path), target, users))
    return DependentSearch(found, images, tuple(unreadable))


def _closure(
    path: str, target: Identity, users: dict[Identity, list[tuple[str, Identity, Purpose]]]
) -> Iterator[Dependent]:
    """Users of the target, users of those, ...; each image once, however the references loop."""
    met = {target}
    level = [(path, target)]
    distance = 0
    while level:
        distance += 1
        following = []
        for parent, identity in level:
            for user, own, purpose in users.get(identity, ()):
                if own not in met:
                    met.add(own)
                    following.append((user, own))
                    yield Dependent(user, parent, purpose, distance)
        level = following


def _references(path: str) -> tuple[Identity, list[tuple[Identity, Purpose]]] | None:
    """Identity of an image, and those of the files it names; None when it is not qcow2."""
    with open_local(path) as storage:
        if storage.read(0, len(MAGIC)) != MAGIC:
            return None
        image = Image(storage)
        named: list[tuple[bytes | None, Purpose]] = [
            (image.backing.name if image.backing is not None else None, "backing file"),
            (image.data_file, "data file"),
        ]
        references: list[tuple[Identity, Purpose]] = []
        for name, purpose in named:
            if name is None:
                continue
            try:
                identity = identity_of(resolve(path, name))
            except ReferenceRefused:
                continue
            if identity is not None:
                references.append((identity, purpose))
        return storage.identity(), references
