"""The actions that are crashed, by name; which of them an image variant allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qcow.actions.history import Reclaim
from qcow.actions.snapshot import SnapshotApply, SnapshotCreate, SnapshotDelete, SnapshotRename
from qcow.edit.apply import Action

from .oracle import TinyImage
from .variants import VARIANTS, Variant

#: A date, so that recordings are the same each time.
_DATE = 1_760_000_000_000_000_000

Case = tuple[str, Callable[[], list[Action]]]


def _cases(variant: Variant, image: TinyImage) -> Iterator[Case]:
    snapshots = len(image.snapshots)
    if snapshots + 2 <= variant.most:
        yield "create", lambda: [SnapshotCreate("new", _DATE)]
    if snapshots + 3 <= variant.most:
        yield (
            "create twice",
            lambda: [SnapshotCreate("new", _DATE), SnapshotCreate("newer", _DATE)],
        )
    if snapshots:
        yield "apply", lambda: [SnapshotApply("s0")]
        yield "delete", lambda: [SnapshotDelete(("s0",))]
        yield "rename", lambda: [SnapshotRename("s0", "another name")]
        yield "delete, reclaim", lambda: [SnapshotDelete(("s0",)), Reclaim()]
        if snapshots + 2 <= variant.most:
            yield "apply, keep", lambda: [SnapshotApply("s0", "kept", _DATE)]
    if snapshots > 1:
        names = tuple(f"s{number}" for number in range(snapshots))
        yield "delete all", lambda: [SnapshotDelete(names)]
    yield "reclaim", lambda: [Reclaim()]


def all_cases() -> Iterator[tuple[str, Variant, Callable[[], list[Action]]]]:
    """(name, variant, actions) of every combination that makes sense."""
    for variant in VARIANTS:
        image = TinyImage(variant.make(), variant.backing)
        for name, actions in _cases(variant, image):
            yield f"{name} - {variant.name}", variant, actions
