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

from qcow.chain import coverage, dependents, layer_infos, open_chain
from qcow.disk import ExtentKind
from qcow.formats.raw import RawImage
from qcow.inspect.ancestry import ancestry
from qcow.inspect.classes import ClusterClass
from qcow.inspect.guest_classes import guest_classes
from qcow.inspect.owners import scan_owners
from qcow.inspect.sharing import sharing
from qcow.inspect.space import space
from qcow.jobs import CancelToken, ProgressCallback, Throttle
from qcow.storage.holders import holders
from qcow.storage.locks import LockMode, probe

from .pyramid import MAX_CLUSTERS, ClassPyramid, RefcountPyramid
from .session import Session


def scan_host_map(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """Class and refcount of every host cluster; both maps grow while it runs."""
    image = session.image
    total = min(MAX_CLUSTERS, -(-session.file.size() // session.cluster_size))
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


def _raw_runs(
    image: RawImage, cluster_size: int, cancel: CancelToken
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint8]]]:
    """(first cluster, lengths, classes): a cluster that holds any data is data, else free."""
    done = 0
    total = -(-image.storage.size() // cluster_size)
    for batch in image.extents():
        cancel.check()
        data = batch.kind == ExtentKind.DATA
        starts = batch.start[data] // cluster_size
        ends = np.minimum(-(-(batch.start + batch.length)[data] // cluster_size), total)
        reached = min(total, int(batch.start[-1] + batch.length[-1]) // cluster_size)
        before = np.maximum.accumulate(np.concatenate(([done], ends[:-1])))
        starts = np.maximum(starts, before)
        ends = np.maximum(ends, starts)
        lengths = np.empty(2 * len(starts) + 1, dtype=np.int64)
        lengths[0:-1:2] = starts - before
        lengths[1::2] = ends - starts
        last = int(ends[-1]) if len(ends) else done
        lengths[-1] = max(0, reached - last)
        classes = np.full(len(lengths), ClusterClass.FREE, dtype=np.uint8)
        classes[1::2] = ClusterClass.DATA
        used = lengths > 0
        if used.any():
            yield done, lengths[used], classes[used]
        done = max(last, reached)
    if done < total:
        yield done, np.array([total - done]), np.array([ClusterClass.FREE], dtype=np.uint8)


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
    from qcow.inspect.check import check

    if session.qcow2 is not None:
        session.check = check(session.qcow2, progress=progress, cancel=cancel)


def follow_chain(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """The layers that the session's gate lets pass, and how much of the disk each serves."""
    # Beside a running machine nothing is locked: its own block jobs must not meet our lock.
    lock = LockMode.SNOOP if session.live else LockMode.READER
    chain = open_chain(session.image, session.gate, lock=lock)
    before, session.chain = session.chain, chain
    session.layers = layer_infos(chain)
    if before is not None:
        before.close()
    session.layers = layer_infos(chain, coverage(chain, progress=progress, cancel=cancel))


def search_dependents(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """Images in the folder of this one that build on it; reads the header of each."""
    folder = os.path.dirname(os.path.abspath(session.path))
    session.dependents = dependents(session.path, [folder], progress=progress, cancel=cancel)


def measure_fragmentation(
    session: Session, progress: ProgressCallback, cancel: CancelToken
) -> None:
    """How scattered the active disk lies in the file."""
    from qcow.inspect.fragmentation import fragmentation

    if session.qcow2 is not None:
        session.fragmentation = fragmentation(session.qcow2, progress=progress, cancel=cancel)


def ask_holders(session: Session) -> None:
    """Who else has the file open, and with which locks."""
    session.lock_state = probe(session.file.fileno())
    identity = session.file.identity()
    found, session.hidden_holders = holders(session.path if identity is None else identity)
    session.holders = tuple(found)
