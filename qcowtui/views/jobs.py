"""The work that fills a session, as plain functions: no screen, run by one worker at a time.

Each takes ``(session, progress, cancel)``, raises what the engine raises, and leaves what it found
in the session.  :mod:`qcowtui.views.work` names them and is the one way to run them.

A part that is known already stays on the screen until its successor is complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qcow.chain import Chain, coverage, dependents, layer_infos, open_chain
from qcow.disk import ExtentBatch, ExtentKind
from qcow.edit.journal_place import pending
from qcow.formats.raw import RawImage
from qcow.image.image import Image
from qcow.inspect.ancestry import ancestry
from qcow.inspect.check import check
from qcow.inspect.classes import ClusterClass
from qcow.inspect.diff import diff
from qcow.inspect.fragmentation import fragmentation
from qcow.inspect.guest_classes import guest_classes
from qcow.inspect.owners import scan_owners
from qcow.inspect.sharing import sharing
from qcow.inspect.space import space
from qcow.inspect.states import resolve_state
from qcow.jobs import CancelToken, ProgressCallback, Throttle
from qcow.storage.holders import holders
from qcow.storage.locks import LockMode, probe

from .changes.past import look_back
from .changes.plan_map import PlanMap
from .diff_map import NOTHING, DiffMap
from .pyramid import MAX_CLUSTERS, ClassPyramid, RefcountPyramid
from .session import Session
from .states import state_words


def scan_host_map(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """Class and refcount of every host cluster; both maps grow while it runs."""
    image = session.image
    total = min(MAX_CLUSTERS, -(-session.storage.size() // session.cluster_size))
    host_map, refcounts = ClassPyramid(total), RefcountPyramid(total)
    if session.host_map is None:
        session.host_map, session.refcounts = host_map, refcounts
    if isinstance(image, RawImage):
        for first, lengths, classes in _raw_runs(image, session.cluster_size, cancel):
            host_map.update_runs(first, lengths, classes)
        session.host_map = host_map
        return

    def publish(first: int, classes: NDArray[np.uint8]) -> None:
        if first >= total:
            return
        classes = classes[: total - first]
        host_map.update(first, classes)
        if classes.min() >= ClusterClass.FREE and classes.max() <= ClusterClass.BEYOND_END:
            # Settled as free: where no refcount block exists, no count will be published.
            refcounts.update(first, np.zeros(len(classes), dtype=np.uint16))

    def publish_counts(first: int, counts: NDArray[np.uint16], mismatch: NDArray[np.bool_]) -> None:
        if first < total:
            refcounts.update(first, counts[: total - first], mismatch[: total - first])

    session.owners = scan_owners(
        image,
        publish=publish,
        publish_counts=publish_counts,
        progress=progress,
        cancel=cancel,
    )
    session.host_map, session.refcounts = host_map, refcounts


_STORED = (int(ExtentKind.DATA), int(ExtentKind.COMPRESSED))


def _cluster_runs(
    batches: Iterator[ExtentBatch], length: int, cluster_size: int, cancel: CancelToken
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]:
    """(first cluster, lengths, classes): a cluster that holds any data is data, else free."""
    done = 0
    total = -(-length // cluster_size)
    for batch in batches:
        cancel.check()
        data = np.isin(batch.kind, _STORED)
        starts = batch.start[data] // cluster_size
        ends = np.minimum(-(-(batch.start + batch.length)[data] // cluster_size), total)
        before = np.maximum.accumulate(np.concatenate(([done], ends)))
        starts, ends = np.maximum(starts, before[:-1]), np.maximum(ends, before[:-1])
        reached = int(batch.start[-1] + batch.length[-1]) // cluster_size
        edges = np.empty(2 * len(starts) + 2, dtype=np.int64)
        edges[0], edges[-1] = done, max(int(before[-1]), min(total, reached))
        edges[1:-1:2], edges[2:-1:2] = starts, ends
        lengths = np.diff(edges)
        classes = np.full(len(lengths), ClusterClass.FREE, dtype=np.uint8)
        classes[1::2] = ClusterClass.DATA
        used = lengths > 0
        if used.any():
            yield done, lengths[used], classes[used]
        done = int(edges[-1])
    if done < total:
        yield done, np.array([total - done]), np.array([ClusterClass.FREE], dtype=np.uint8)


def _raw_runs(
    image: RawImage, cluster_size: int, cancel: CancelToken
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]:
    return _cluster_runs(image.extents(), image.storage.size(), cluster_size, cancel)


def scan_guest_map(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """The active disk in guest order; the map grows while it runs."""
    image = session.image
    total = min(MAX_CLUSTERS, -(-image.virtual_size // session.cluster_size))
    guest_map = ClassPyramid(total)
    if session.guest_map is None:
        session.guest_map = guest_map
    if isinstance(image, RawImage):
        for first, lengths, classes in _raw_runs(image, session.cluster_size, cancel):
            guest_map.update_runs(first, lengths, classes)
        session.guest_map = guest_map
        return
    tell = Throttle(progress)
    for first, found in guest_classes(image.active, session.owners, cancel=cancel):
        guest_map.update(first, found[: total - first])
        tell("mapping the guest disk", first + len(found), total)
    session.guest_map = guest_map


def compare_states(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """What each snapshot holds alone, the snapshot tree, and where the space goes."""
    image = session.qcow2
    if image is None:
        return
    shares = sharing(image, progress=progress, cancel=cancel)
    session.ancestry = ancestry(image, shares)
    if session.owners is not None:
        session.space = space(image, session.owners, shares)
    session.sharing = shares


def run_check(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """The full check of all metadata."""
    if session.qcow2 is not None:
        session.check = check(session.qcow2, progress=progress, cancel=cancel)


def look_into_leaks(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """What the leaked clusters hold that the check found: they may be lost guest data."""
    image, result = session.qcow2, session.check
    if image is not None and result is not None and result.leaks + result.extra_leaks:
        from qcow.inspect.triage import triage  # most images have none

        session.triage = triage(image, progress=progress, cancel=cancel)


def follow_chain(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """The layers that the session's gate lets pass, and how much of the disk each serves."""
    # Beside a running machine nothing is locked: its own block jobs must not meet our lock.
    lock = LockMode.SNOOP if session.live else LockMode.READER
    chain = open_chain(session.image, session.gate, lock=lock)
    if session.staged:
        chain = session.staged[-1].preview.editor.with_changes_below(chain)
    before, session.chain = session.chain, chain
    session.layers = layer_infos(chain)
    if before is not None:
        before.close()
    session.layers = layer_infos(chain, coverage(chain, progress=progress, cancel=cancel))


def search_dependents(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """Images in the folder of this one that build on it; reads the header of each."""
    folder = os.path.dirname(os.path.abspath(session.path))
    session.dependents = dependents(session.path, [folder], progress=progress, cancel=cancel)


def compare_two(
    session: Session, progress: ProgressCallback, cancel: CancelToken, one: str, other: str
) -> None:
    """Mark on a map where two states differ, reading tables only; it grows while it runs."""
    first = resolve_state(session.image, session.chain, one)
    second = resolve_state(session.image, session.chain, other)
    clusters = -(-max(first.virtual_size, second.virtual_size) // session.cluster_size)
    found = DiffMap(
        state_words(session, one),
        state_words(session, other),
        min(MAX_CLUSTERS, clusters),
        session.cluster_size,
    )
    session.difference = found
    end = 0
    for start, lengths, classes in _stored_runs(second, session.cluster_size, cancel):
        found.pyramid.update_runs(start, lengths, classes)
        end = start + int(lengths.sum())
    if end < found.pyramid.total:
        rest = np.array([found.pyramid.total - end])
        found.pyramid.update_runs(end, rest, np.array([NOTHING], dtype=np.uint8))
    for ranges in diff(first, second, progress=progress, cancel=cancel):
        found.add(ranges.start, ranges.length)


def _stored_runs(
    disk: Chain, cluster_size: int, cancel: CancelToken
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]:
    return _cluster_runs(disk.runs(), disk.virtual_size, cluster_size, cancel)


def measure_fragmentation(
    session: Session, progress: ProgressCallback, cancel: CancelToken
) -> None:
    """How scattered the active disk lies in the file."""
    if session.qcow2 is not None:
        session.fragmentation = fragmentation(
            session.qcow2.active, progress=progress, cancel=cancel
        )


def draw_plan(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """What planned changes free and write, on a map of the file as it would be."""
    if session.staged and session.host_map is not None:
        plans = [staged.plan for staged in session.staged]
        longest = max(max(plan.length_before, plan.length_after) for plan in plans)
        session.plan_map = PlanMap(plans, session.host_map, session.cluster_size, longest)


def look_at_past(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """Which changes of the file can be undone, and whether one waits to be completed."""
    session.journal = pending(session.path)
    image = session.file_image
    if isinstance(image, Image) and session.journal is None and image.geometry is not None:
        session.past = look_back(session.path, image)


def ask_holders(session: Session) -> None:
    """Who else has the file open, and with which locks."""
    session.lock_state = probe(session.file.fileno())
    identity = session.file.identity()
    found, session.hidden_holders = holders(session.path if identity is None else identity)
    session.holders = tuple(found)
