"""What can be asked of an image and its backing files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from qcow import opening
from qcow.errors import QcowError, StorageError
from qcow.image.image import Image
from qcow.jobs import CancelToken, ProgressCallback
from qcow.storage.gate import Gate, Policy, combine
from qcow.text import safe

from ..session import Session
from ..units import size
from .staging import Request, Staged, planned

if TYPE_CHECKING:
    from qcow.actions.base_evidence import Candidate
    from qcow.actions.commit_runs import Readers
    from qcow.edit.apply import Action

#: Folders searched for a backing file.
_MAX_FOLDERS = 40
_CHANGES_SNAPSHOTS = "internal snapshots read differently afterwards"


def commit(base: int) -> Request:
    """What the image holds into the layer at depth ``base``."""
    from qcow.actions.commit import Commit

    return Request(
        "Commit to the backing file" if base == 1 else f"Commit to layer {base}",
        Commit(base),
        Commit(base, allow_dependents=True),
        "what else reads the base changes, too",
    )


def commit_nevertheless(base: int) -> Request:
    """The same, whoever else reads the base."""
    from qcow.actions.commit import Commit

    return Request("Commit, and change the others", Commit(base, allow_dependents=True))


def flatten() -> Request:
    """Independence of all backing files."""
    from qcow.actions.flatten import Flatten

    return Request("Flatten", Flatten(), Flatten(keep_snapshots=False), _CHANGES_SNAPSHOTS)


class Base(NamedTuple):
    """A file chosen as the backing file: ``name`` as the image records it (raw text)."""

    path: str
    name: str
    format: str


def relink(base: Base) -> Request:
    """Another name for the backing file; no data moves."""
    from qcow.actions.relink import Relink

    return Request(
        f"Relink to {safe(os.path.basename(base.path), 40)}",
        Relink(base.name, base.format),
        Relink(base.name, base.format, force=True),
        "the disk may read differently, or make no sense",
    )


def rebase(base: Base) -> Request:
    """Another backing file; the disk stays the same."""
    from qcow.actions.rebase import Rebase

    return Request(
        f"Rebase to {safe(os.path.basename(base.path), 40)}",
        Rebase(base.name, base.format),
        Rebase(base.name, base.format, keep_snapshots=False),
        _CHANGES_SNAPSHOTS,
    )


def base_at(image: Image, path: str) -> Base:
    """The file at ``path`` as a base: its format is found out.  Raises what opening raises."""
    from qcow.actions.base_evidence import recorded_name
    from qcow.storage.locks import LockMode

    with opening.open(path, lock=LockMode.SNOOP) as found:
        return Base(path, recorded_name(image, path), found.format)


def gate_for(session: Session, base: Base) -> Gate:
    """What may be opened to change to ``base``: it, and what lies beside it or the image."""
    if session.gate.policy is Policy.FOLLOW:
        return session.gate
    folders = (os.path.dirname(os.path.abspath(path)) for path in (session.path, base.path))
    return Gate.trusting([*session.gate.folders, *folders])


def search_bases(
    session: Session, progress: ProgressCallback, cancel: CancelToken
) -> tuple[Candidate, ...]:
    """Files that could be the backing file, the likeliest first.

    Looked for in the folder of the image, the folders in it, and where its header points.
    Raises StorageError, Cancelled.
    """
    from qcow.actions.base_evidence import candidates

    image = session.file_image
    assert isinstance(image, Image)
    found = {}
    for folder in _folders(session.path, image):
        try:
            looked = candidates(image, folder, progress=progress, cancel=cancel)
        except StorageError:
            continue  # one folder less to look into
        found.update({one.path: one for one in looked})
    return tuple(sorted(found.values(), key=lambda one: (-one.score, one.path)))


def _folders(path: str, image: Image) -> list[str]:
    own = os.path.dirname(os.path.abspath(path))
    return list(dict.fromkeys(_all_folders(own, path, image)))[:_MAX_FOLDERS]


def _all_folders(own: str, path: str, image: Image) -> Iterator[str]:
    yield own
    if image.backing is not None:
        named = os.path.dirname(os.path.abspath(combine(path, image.backing.name)))
        if os.path.isdir(named):
            yield named
    try:
        with os.scandir(own) as entries:
            inside = [e.path for e in entries if not e.name.startswith(".") and e.is_dir()]
    except OSError:
        return
    yield from sorted(inside)


def candidate_words(one: Candidate) -> tuple[str, str]:
    """(the file, what speaks for it and against it), safe to show."""
    doubtful = "  — doubtful" if one.doubts else ""
    name = f"{safe(one.name, 60)}  {one.format}, {size(one.virtual_size)}{doubtful}"
    reasons = [f"! {text}" for text in one.doubts] + [f"+ {text}" for text in one.speaks_for]
    return name, "\n   ".join(reasons)


def readers(session: Session, base: int, cancel: CancelToken) -> Readers:
    """Who else reads the layer at depth ``base``.  Raises Cancelled."""
    from qcow.actions.commit_runs import readers_of_base

    if session.chain is None:
        raise QcowError("The backing chain is not read yet.")
    return readers_of_base(session.chain, base, cancel)


def plan_elsewhere(
    path: str, action: Action, gate: Gate, progress: ProgressCallback, cancel: CancelToken
) -> Staged:
    """Plan ``action`` on the image at ``path``.  Raises what opening and planning raise."""
    with opening.open(path) as image:
        if not isinstance(image, Image):
            raise StorageError(f"'{safe(path)}' is no qcow2 image.")
        staged = planned(image, (), action, gate, progress, cancel)
        staged.preview.close()
        return staged
