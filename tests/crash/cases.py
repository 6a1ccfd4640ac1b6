"""The actions that are crashed, by name; which of them an image variant allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple
from unittest.mock import patch

from qcow.actions.amend import Amend
from qcow.actions.amend_options import AmendOptions
from qcow.actions.bitmap import (
    BitmapAdd,
    BitmapClear,
    BitmapDisable,
    BitmapEnable,
    BitmapMerge,
    BitmapRemove,
)
from qcow.actions.compact import Compact
from qcow.actions.discard import Discard, Zero
from qcow.actions.flatten import Flatten
from qcow.actions.history import Reclaim
from qcow.actions.rebase import Rebase
from qcow.actions.relink import Relink
from qcow.actions.resize import Resize
from qcow.actions.snapshot import SnapshotApply, SnapshotCreate, SnapshotDelete, SnapshotRename
from qcow.actions.write import BytesSource, Write
from qcow.edit.apply import Action
from tests.support.images import noise

from .acting import Acted, State, Wrap, act, unwrapped
from .enumerate import Op
from .oracle import TinyImage
from .variants import BELOW, VARIANTS, Variant

#: A date, so that recordings are the same each time.
DATE = 1_760_000_000_000_000_000


class Case(NamedTuple):
    """``actions`` on ``variant``; ``smaller``: constants of the engine, so that batches are small.

    ``in_place``: guest data in an external data file is changed where it lies, as no image can
    help, so that views of the changed clusters are mixed.
    """

    name: str
    variant: Variant
    actions: Callable[[], list[Action]]
    smaller: tuple[tuple[str, int], ...] = ()
    in_place: bool = False

    def act(
        self,
        state: State | None = None,
        actions: Sequence[Action] = (),
        wrap: Wrap = unwrapped,
        wrap_data: Wrap = unwrapped,
        order: list[tuple[int, Op]] | None = None,
    ) -> Acted:
        """Run ``actions``, or else those of the case, on what a crash left, or else the variant."""
        with ExitStack() as held:
            for name, value in self.smaller:
                held.enter_context(patch(name, value))
            return act(
                self.variant,
                actions or self.actions(),
                None if state is None else state.file,
                None if state is None else state.data,
                in_place=self.in_place,
                wrap=wrap,
                wrap_data=wrap_data,
                order=order,
            )


Found = tuple[str, Callable[[], list[Action]]]


def _snapshots(variant: Variant, image: TinyImage) -> Iterator[Found]:
    snapshots = len(image.snapshots)
    if snapshots + 2 <= variant.most:
        yield "create", lambda: [SnapshotCreate("new", DATE)]
    if snapshots + 3 <= variant.most:
        yield "create twice", lambda: [SnapshotCreate("new", DATE), SnapshotCreate("newer", DATE)]
    if snapshots:
        yield "apply", lambda: [SnapshotApply("s0")]
        yield "delete", lambda: [SnapshotDelete(("s0",))]
        yield "rename", lambda: [SnapshotRename("s0", "another name")]
        yield "delete, reclaim", lambda: [SnapshotDelete(("s0",)), Reclaim()]
        if snapshots + 2 <= variant.most:
            yield "apply, keep", lambda: [SnapshotApply("s0", "kept", DATE)]
    if snapshots > 1:
        names = tuple(f"s{number}" for number in range(snapshots))
        yield "delete all", lambda: [SnapshotDelete(names)]


def _guest_data(image: TinyImage) -> Iterator[Found]:
    size = image.cluster
    if not image.crypt:
        part = noise(7, 5 * size // 2)
        yield "write", lambda: [Write(size // 2, len(part), BytesSource(part))]
        whole = noise(8, 3 * size) + bytes(2 * size) + noise(9, size)
        yield (
            "write around zeros",
            lambda: [Write(11 * size, len(whole), BytesSource(whole), detect_zeroes=True)],
        )
        far = noise(10, 700)
        yield (
            "write far away",
            lambda: [Write(image.size - len(far), len(far), BytesSource(far))],
        )
        yield "zero parts", lambda: [Zero(((size // 2, 4 * size), (13 * size + 7, 90)))]
    whole_clusters = ((size, 4 * size), (12 * size, 3 * size))
    yield "zero", lambda: [Zero(whole_clusters)]
    yield "zero, keep", lambda: [Zero(whole_clusters, keep_allocation=True)]
    if image.version >= 3 or not image.name_at:
        yield "discard", lambda: [Discard(whole_clusters)]
        yield "discard all, reclaim", lambda: [Discard(((0, image.size),)), Reclaim()]
    if image.name_at:
        yield "discard, reveal", lambda: [Discard(whole_clusters, reveal_backing=True)]


def _backing(image: TinyImage) -> Iterator[Found]:
    if not image.name_at:
        return
    yield "relink", lambda: [Relink("other.raw", "raw", force=True)]
    yield "relink to none", lambda: [Relink(None, force=True)]
    yield "rebase", lambda: [Rebase("other.raw", "raw", keep_snapshots=False)]
    yield "flatten", lambda: [Flatten(keep_snapshots=False)]


def _resizing(image: TinyImage) -> Iterator[Found]:
    if image.version < 3 and image.snapshots:
        return
    size = image.size
    per = image.cluster * image.cluster // (16 if image.extended else 8)
    yield "grow", lambda: [Resize(size + 3 * image.cluster)]
    yield "grow by tables", lambda: [Resize(size + 3 * per + 512)]
    yield "shrink", lambda: [Resize(size // 2 & ~511, shrink=True, force=True)]
    if image.bits <= 10:
        yield "grow, metadata", lambda: [Resize(size + per // 2, preallocation="metadata")]


def _bitmaps(image: TinyImage) -> Iterator[Found]:
    if image.version < 3:
        return
    yield "bitmap add", lambda: [BitmapAdd("fresh", 4096)]
    yield "bitmaps add, write", lambda: _with_write(image, BitmapAdd("one"), BitmapAdd("two", 512))
    if image.bitmaps:
        yield "bitmap remove", lambda: [BitmapRemove("dirty")]
        yield "bitmaps remove", lambda: [BitmapRemove("dirty"), BitmapRemove("off")]
        yield "bitmap clear", lambda: [BitmapClear("dirty")]
        yield "bitmap switch", lambda: [BitmapEnable("off"), BitmapDisable("dirty")]
        yield "bitmap merge", lambda: [BitmapMerge("dirty", "off")]


def _with_write(image: TinyImage, *actions: Action) -> list[Action]:
    return [*actions, Zero(((image.cluster, image.cluster),))]


def _compacting(image: TinyImage) -> Iterator[Found]:
    if image.crypt:
        return
    yield "compact", lambda: [Compact()]
    yield "compact in rounds", lambda: [Compact(spare=2 * image.cluster)]
    yield "compact zeroes", lambda: [Compact(zeroes=True, reclaim=False)]
    yield "defragment", lambda: [Compact(zeroes=True, defragment=True, spare=40 * image.cluster)]
    yield "write, compact", lambda: [*_with_write(image), Compact(reclaim=False), Reclaim()]


def _amending(image: TinyImage) -> Iterator[Found]:
    if image.version < 3:
        yield "upgrade", lambda: [Amend(AmendOptions(compat="1.1"))]
        return
    yield "lazy refcounts", lambda: [Amend(AmendOptions(lazy_refcounts=True))]
    for bits in (16, 64, 32, 8):
        if 1 << image.order != bits and len(image.snapshots) + 1 < 1 << bits:
            yield (
                f"{bits}-bit refcounts",
                lambda bits=bits: [  # type: ignore[misc]
                    Amend(AmendOptions(refcount_bits=bits))
                ],
            )
    plain = not (image.extended or image.external or image.zstd or image.bitmaps)
    if plain and image.order == 4:
        yield "downgrade", lambda: [Amend(AmendOptions(compat="0.10"))]


#: Constants that make the long actions work in several batches even on tiny images.
SMALLER = (("qcow.actions.batch.BATCH", 4096), ("qcow.actions.rebase._PIECE", 2048))


def cases_of(variant: Variant) -> Iterator[Case]:
    """Every combination that makes sense."""
    image = TinyImage(variant.make(), BELOW)
    if not image.external:
        for name, actions in _snapshots(variant, image):
            yield Case(name, variant, actions)
    for name, actions in _guest_data(image):
        yield Case(name, variant, actions, in_place=image.external)
    for name, actions in _backing(image):
        yield Case(name, variant, actions)
    if image.name_at:
        yield Case("flatten in batches", variant, lambda: [Flatten(False)], SMALLER)
        yield Case(
            "rebase in batches", variant, lambda: [Rebase("other.raw", "raw", False)], SMALLER
        )
    for found in (_resizing(image), _bitmaps(image), _amending(image), _compacting(image)):
        for name, actions in found:
            yield Case(name, variant, actions)
    yield Case("reclaim", variant, lambda: [Reclaim()])


def all_cases() -> Iterator[Case]:
    for variant in VARIANTS:
        yield from cases_of(variant)


def case_of(name: str, variant: str) -> Case:
    """The one that is called so."""
    found = next(one for one in VARIANTS if one.name == variant)
    return next(case for case in cases_of(found) if case.name == name)
