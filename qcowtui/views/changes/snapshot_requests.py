"""What can be asked of snapshots."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qcow.errors import UsageError
from qcow.text import safe

from ..selection import ACTIVE
from ..units import plural
from .staging import Request

if TYPE_CHECKING:
    from qcow.image.image import Image
    from qcow.jobs import CancelToken, ProgressCallback
    from qcow.layout.snapshots import Snapshot

    from ..session import Session


def keep_name(snapshot: str) -> str:
    """What the present state is called when the disk goes back to a snapshot (raw text)."""
    return f"before-{snapshot}-{time.strftime('%Y%m%d-%H%M%S')}"


def key_of(image: Image, snapshot: Snapshot) -> str:
    """What commands call a snapshot: its name where only it has that, else its ID (raw text).

    Raises UsageError when neither tells it from another one.
    """
    others = [one for one in image.snapshots if one.index != snapshot.index]
    for text in (snapshot.name, snapshot.id):
        if text and not any(text in (one.name, one.id) for one in others):
            return text.decode("utf-8", "surrogateescape")
    raise UsageError("Another snapshot has the same name and ID: they cannot be told apart.")


def difference(
    session: Session, snapshot: Snapshot, progress: ProgressCallback, cancel: CancelToken
) -> int:
    """Bytes of the disk that the present state and a snapshot map differently.

    Raises GuestDataError, Cancelled.
    """
    from qcow.inspect.diff import diff
    from qcow.inspect.states import resolve_state

    now = resolve_state(session.image, session.chain, ACTIVE)
    then = resolve_state(session.image, session.chain, snapshot.label)
    found = diff(now, then, progress=progress, cancel=cancel)
    return sum(int(ranges.length.sum()) for ranges in found)


def take(name: str) -> Request:
    """A snapshot of the disk as it is."""
    from qcow.actions.snapshot import SnapshotCreate

    return Request(f'Take snapshot "{safe(name, 40)}"', SnapshotCreate(name))


def revert(image: Image, snapshot: Snapshot, keep_as: str | None) -> Request:
    """The disk as it was; ``keep_as`` names a snapshot of the present state."""
    from qcow.actions.snapshot import SnapshotApply

    title = f'Go back to "{safe(snapshot.name, 40)}"'
    return Request(title, SnapshotApply(key_of(image, snapshot), keep_as))


def delete(image: Image, snapshots: Sequence[Snapshot]) -> Request:
    """Take snapshots away."""
    from qcow.actions.snapshot import SnapshotDelete

    one = f'snapshot "{safe(snapshots[0].name, 40)}"'
    title = f"Delete {one if len(snapshots) == 1 else plural(len(snapshots), 'snapshot')}"
    return Request(title, SnapshotDelete(tuple(key_of(image, each) for each in snapshots)))


def rename(image: Image, snapshot: Snapshot, name: str) -> Request:
    """Another name."""
    from qcow.actions.snapshot import SnapshotRename

    title = f'Rename "{safe(snapshot.name, 40)}"'
    return Request(title, SnapshotRename(key_of(image, snapshot), name))


def name_meaning(image: Image, name: str) -> tuple[str, bool]:
    """(what a snapshot's new name comes to, whether it cannot be had), safe to show."""
    if not name:
        return "A snapshot needs a name.", True
    length = len(name.encode("utf-8", "surrogateescape"))
    if length > 65535:
        return f"A name has at most 65,535 bytes, not {length:,}.", True
    if any(one.name == name.encode("utf-8", "surrogateescape") for one in image.snapshots):
        return "There is a snapshot of that name already; their IDs would tell them apart.", False
    return "", False
