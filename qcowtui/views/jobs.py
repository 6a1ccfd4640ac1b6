"""The work that fills a session, as plain functions: no screen, run by one worker at a time.

Each takes ``(session, progress, cancel)``, raises what the engine raises, and leaves what it found
in the session.  :func:`run_job` is the one way to call them: it keeps the session's part states.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcow.chain import coverage, dependents, layer_infos, open_chain
from qcow.disk import ExtentKind
from qcow.errors import Cancelled, QcowError
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
from qcow.text import safe

from .pyramid import MAX_CLUSTERS, ClassPyramid, RefcountPyramid
from .session import Part, PartState, Session

Work = Callable[[Session, ProgressCallback, CancelToken], None]


@dataclass(frozen=True)
class Job:
    """``parts`` are what it fills; ``title`` is what the progress line calls it."""

    title: str
    parts: tuple[Part, ...]
    work: Work


def scan_host_map(session: Session, progress: ProgressCallback, cancel: CancelToken) -> None:
    """Class and refcount of every host cluster; both maps grow while it runs."""
    image = session.image
    total = min(MAX_CLUSTERS, -(-session.file.size() // session.cluster_size))
    host_map, refcounts = ClassPyramid(total), RefcountPyramid(total)
    session.host_map, session.refcounts = host_map, refcounts
    if isinstance(image, RawImage):
        for first, lengths, classes in _raw_runs(image, session.cluster_size, cancel):
            host_map.update_runs(first, lengths, classes)
        return

    def publish(first: int, classes: NDArray[np.uint8]) -> None:
        if first < total:
            host_map.update(first, classes[: total - first])

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
    session.guest_map = guest_map
    if isinstance(image, RawImage):
        for first, lengths, classes in _raw_runs(image, session.cluster_size, cancel):
            guest_map.update_runs(first, lengths, classes)
        return
    tell = Throttle(progress)
    for first, found in guest_classes(image.active, session.owners, cancel=cancel):
        guest_map.update(first, found[: total - first])
        tell("mapping the guest disk", first + len(found), total)


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


HOST_MAP = Job("Reading the map", (Part.HOST_MAP,), scan_host_map)
CHECK = Job("Checking", (Part.CHECK,), run_check)
SHARING = Job("Comparing snapshots", (Part.SHARING,), compare_states)
GUEST_MAP = Job("Mapping the guest disk", (Part.GUEST_MAP,), scan_guest_map)
CHAIN = Job("Following the chain", (Part.CHAIN,), follow_chain)
FRAGMENTATION = Job("Measuring fragmentation", (Part.FRAGMENTATION,), measure_fragmentation)
DEPENDENTS = Job("Searching this folder", (Part.CHAIN,), search_dependents)

#: What runs after opening, in this order: the picture first.
OPENING = (HOST_MAP, CHECK, SHARING, GUEST_MAP, CHAIN, FRAGMENTATION)


def run_job(
    job: Job, session: Session, progress: ProgressCallback, cancel: CancelToken
) -> PartState:
    """Run ``job``; whatever goes wrong ends as a state and a sentence in the session, not here."""
    revision = session.revision
    for part in job.parts:
        session.states[part] = PartState.PARTIAL
        session.failures.pop(part, None)
    try:
        job.work(session, progress, cancel)
        state, failure = PartState.COMPLETE, None
    except Cancelled:
        state, failure = PartState.PARTIAL, None
    except QcowError as error:
        state, failure = PartState.FAILED, str(error)
    except Exception as error:
        state = PartState.FAILED
        failure = (
            f"{job.title} stopped on a defect of qcowtui itself ({type(error).__name__}: "
            f"{safe(str(error), 200)}). The image was not changed. Please report it."
        )
    if revision == session.revision:
        for part in job.parts:
            session.states[part] = state
            if failure is not None:
                session.failures[part] = failure
    return state
