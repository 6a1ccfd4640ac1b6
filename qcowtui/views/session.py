"""Everything known of one opened image.  Results arrive over time; None means not known yet.

A :class:`Session` is opened from the first bytes of the file, so that a screen can be painted at
once; jobs (:mod:`qcowtui.views.jobs`) then fill one :class:`Part` after the other from a worker
thread.  A job writes a finished value with one assignment and never changes it afterwards (the
maps, which grow while they are scanned, are made for that), so a screen may read at any time.

Neither Textual nor numpy is imported here: opening is what the first paint waits for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from qcow import opening
from qcow.edit.journal_place import pending
from qcow.errors import LockedError
from qcow.findings import Finding
from qcow.image.image import Image
from qcow.inspect.classes import ClusterClass
from qcow.opening import AnyImage
from qcow.storage.gate import Gate
from qcow.storage.holders import Holder
from qcow.storage.local import LocalFile, open_local
from qcow.storage.locks import ImageLock, LockMode, LockState, probe

from .app_state import AppState
from .jumplist import JumpList
from .selection import ACTIVE, Selection

if TYPE_CHECKING:
    from qcow.chain import Chain, DependentSearch, LayerInfo
    from qcow.inspect.ancestry import Ancestry
    from qcow.inspect.check import CheckResult
    from qcow.inspect.fragmentation import Fragmentation
    from qcow.inspect.owners import OwnerMap
    from qcow.inspect.sharing import Sharing
    from qcow.inspect.space import Space
    from qcow.inspect.triage import Triage
    from qcow.storage.base import Storage

    from .changes.past import Past
    from .changes.plan_map import PlanMap
    from .changes.staging import Staged
    from .diff_map import DiffMap
    from .pyramid import ClassPyramid, RefcountPyramid


_DIRTY, _POSTPONED = "QCOW-DIRTY", "QCOW-REFCOUNT-STALE"
#: What a map of a raw image is divided into.
DEFAULT_CLUSTER_SIZE = 65536


class Part(Enum):
    """A part of what is known; a pane is told the part that changed.  The value is for people."""

    IMAGE = "image"  # image: header, extensions, snapshot table ...; known from the start
    LOCK = "lock"  # lock_state, holders, live
    HOST_MAP = "host map"  # host_map, refcounts (both growing); owners when complete
    GUEST_MAP = "guest map"  # guest_map (growing)
    SHARING = "sharing"  # sharing, ancestry, space
    CHECK = "check"
    LEAKS = "leaked clusters"  # triage
    CHAIN = "chain"  # chain, layers, dependents
    FRAGMENTATION = "fragmentation"
    DIFF = "diff"  # what is drawn of two states, or of planned changes, on the maps
    PAST = "history"  # past: which changes can be undone; journal
    PLANS = "plans"  # unlocked, staged


class Order(Enum):
    """The two orders in which the maps and plain addresses are read."""

    HOST = "host file"
    GUEST = "guest disk"


class PartState(Enum):
    """How far a part is known."""

    UNKNOWN = "not read yet"
    PARTIAL = "partial"  # a job is filling it, or was cancelled
    COMPLETE = "complete"
    FAILED = "failed"  # Session.failures says why


@dataclass(slots=True)
class Session:
    """One opened image.  Owned by the screen's thread; jobs fill the fields named in :class:`Part`.

    ``path`` is raw text.  ``live``: another process may be writing, so the image is only looked at
    and no lock is held.  With ``staged`` changes ``image`` is what they would make of the file,
    and everything else that is known is known of that.
    """

    path: str
    image: AnyImage
    file: LocalFile  # the open file; its image reads from it
    lock_state: LockState
    live: bool
    #: What may be opened besides the image itself; the user widens it with ``f``.
    gate: Gate = field(default_factory=Gate.closed)
    holders: tuple[Holder, ...] = ()
    hidden_holders: int = 0  # processes whose open files this user may not see
    host_map: ClassPyramid | None = None
    refcounts: RefcountPyramid | None = None
    owners: OwnerMap | None = None
    guest_map: ClassPyramid | None = None
    sharing: Sharing | None = None
    ancestry: Ancestry | None = None
    space: Space | None = None
    check: CheckResult | None = None
    triage: Triage | None = None  # what leaked clusters hold, where there are any
    chain: Chain | None = None
    layers: tuple[LayerInfo, ...] = ()
    dependents: DependentSearch | None = None
    fragmentation: Fragmentation | None = None
    difference: DiffMap | None = None  # what two states differ in, while it is on the map
    unlocked: bool = False  # the user allowed changes
    staged: tuple[Staged, ...] = ()  # planned changes, not made yet
    plan_map: PlanMap | None = None  # what they free and write
    shows_plan: bool = True  # the map draws that
    past: Past | None = None
    journal: Finding | None = None  # a change that was interrupted waits to be completed
    selection: Selection = field(default_factory=Selection)
    jumps: JumpList = field(default_factory=JumpList)
    order: Order = Order.HOST
    states: dict[Part, PartState] = field(default_factory=dict)
    failures: dict[Part, str] = field(default_factory=dict)  # sentences, safe to show
    #: Another number after the file was read anew; results of an older one are dropped.
    revision: int = 0
    _lock: ImageLock = field(default_factory=ImageLock)
    _file_image: AnyImage | None = None  # while changes are planned
    _dropped: list[Staged] = field(default_factory=list)

    @property
    def file_image(self) -> AnyImage:
        """The image as it is in the file, whatever is planned."""
        return self.image if self._file_image is None else self._file_image

    @property
    def storage(self) -> Storage:
        """The bytes of ``image``: of the file, or of what planned changes would make of it."""
        return self.image.storage

    @property
    def drawn(self) -> DiffMap | PlanMap | None:
        """What the map draws instead of what clusters are used for."""
        if self.difference is not None or not self.shows_plan:
            return self.difference
        return self.plan_map

    @property
    def qcow2(self) -> Image | None:
        """The image when it is a qcow2 image, else None."""
        return self.image if isinstance(self.image, Image) else None

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster; for a raw image, or without a usable header, the default size."""
        image = self.qcow2
        if image is None or image.geometry is None:
            return DEFAULT_CLUSTER_SIZE
        return image.geometry.cluster_size

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is notable so far: found on opening, by the check, and by following the chain."""
        found = self.image.problems
        if self.check is not None:
            # A check tells what concerns the health of the file; the rest still stands.
            told = {finding.code for finding in self.check.findings}
            if _POSTPONED in told:
                told.add(_DIRTY)  # the same, in fewer words
            found = (
                *self.check.findings,
                *(finding for finding in found if finding.code not in told),
            )
        if self.journal is not None:
            found = (*found, self.journal)
        return (*found, *(() if self.chain is None else self.chain.problems))

    @property
    def has_problem_clusters(self) -> bool:
        """Whether any cluster read so far is leaked, corrupt or overlapping."""
        if self.host_map is None:
            return False
        return bool(self.host_map.counts[ClusterClass.LEAKED :].any())

    def state_of(self, part: Part) -> PartState:
        return self.states.get(part, PartState.UNKNOWN)

    def glance(self, place: Selection) -> Selection:
        """``place`` with what the maps in memory say at once; reads no file."""
        image = self.qcow2
        if image is not None and place.guest_offset is not None and image.geometry is not None:
            geometry = image.geometry
            cluster = place.guest_offset >> geometry.cluster_bits
            place = replace(
                place,
                guest_offset=cluster << geometry.cluster_bits,
                l1_index=cluster // geometry.l2_entries,
                l2_index=cluster % geometry.l2_entries,
            )
        host = place.host_cluster
        if host is None:
            guest_map = self.guest_map
            if guest_map is not None and place.guest_offset is not None and place.state == ACTIVE:
                cluster = place.guest_offset // self.cluster_size
                if cluster < guest_map.total:
                    place = replace(place, cluster_class=guest_map.class_of(cluster))
            return place
        if self.host_map is not None and host < self.host_map.total:
            place = replace(place, cluster_class=self.host_map.class_of(host))
        if self.refcounts is not None and host < self.refcounts.total:
            held = self.refcounts.refcount_of(host)
            if held is not None:
                place = replace(place, refcount=held[0])
        return place

    def close(self) -> None:
        """Let go of every file."""
        if self.chain is not None:
            self.chain.close()
        for staged in (*self.staged, *self._dropped):
            staged.preview.close()
        self._lock.release()
        self.file_image.close()

    # -- the file as others use it ----------------------------------------------------------------

    def try_lock(self) -> bool:
        """Take the reader's lock of a live image; False while somebody still writes to it."""
        fd = self.file.fileno()
        self.lock_state = probe(fd)
        try:
            self._lock.acquire(fd, LockMode.READER, self.file.name)
        except LockedError:
            return False
        return True

    def parse_again(self) -> AnyImage:
        """The image as the open file has it now; changes nothing here (see :meth:`adopt`)."""
        return opening.open_storage(self.file, format=self.image.format)

    def adopt(self, image: AnyImage) -> None:
        """Take the newly parsed image of the file, and forget all that followed from the old one.

        Planned changes are dropped.  The maps stay, to be shown until new ones are complete.
        """
        self._drop(self.staged)
        self.staged, self._file_image = (), None
        self.past = None
        self._show(image)

    def own_files(self) -> tuple[LocalFile, ...]:
        """The files whose locks this session holds."""
        found: list[object] = [self.file]
        for layer in () if self.chain is None else self.chain.layers:
            found += [None if layer.image is None else layer.image.storage, layer.data_file]
        return tuple(one for one in found if isinstance(one, LocalFile))

    # -- planned changes --------------------------------------------------------------------------

    def stage(self, staged: Staged) -> None:
        """Add a planned change and take what it makes of the image for the image."""
        self._file_image = self.file_image
        self.staged = (*self.staged, staged)
        self.shows_plan = True
        self._show(staged.preview.image)

    def unstage(self) -> None:
        """Take the last planned change back."""
        self._drop(self.staged[-1:])
        self.staged = self.staged[:-1]
        image = self.staged[-1].preview.image if self.staged else self.file_image
        if not self.staged:
            self._file_image = None
        self._show(image)

    def _drop(self, staged: tuple[Staged, ...]) -> None:
        # Not closed yet: a thread may still be reading what they showed.
        self._dropped += staged

    def _show(self, image: AnyImage) -> None:
        """Take ``image``, and forget all that followed from the one before."""
        self.image = image
        if self.chain is not None:
            self.chain.close()
        self.owners = None
        self.sharing = self.ancestry = self.space = None
        self.check = self.triage = self.chain = self.fragmentation = self.difference = (
            self.plan_map
        ) = None
        self.layers = ()
        self.states.clear()
        self.failures.clear()
        self.revision += 1


def open_session(path: str, *, format: str | None = None, gate: Gate | None = None) -> Session:
    """Open ``path`` for looking: as a reader, or without any lock where somebody writes to it.

    Raises what :func:`qcow.open` raises, except LockedError.
    """
    storage = open_local(path)
    lock = ImageLock()
    try:
        live = False
        try:
            lock.acquire(storage.fileno(), LockMode.READER, storage.name)
        except LockedError:
            lock.acquire(storage.fileno(), LockMode.SNOOP, storage.name)
            live = True
        image = opening.open_storage(storage, format=format)
        return Session(
            path,
            image,
            storage,
            probe(storage.fileno()),
            live,
            gate=Gate.closed() if gate is None else gate,
            journal=pending(path),
            _lock=lock,
        )
    except BaseException:
        storage.close()
        raise


def open_with_grants(path: str, state: AppState) -> Session:
    """:func:`open_session` with what the user granted for the image's folder; it is remembered."""
    gate = Gate.trusting(state.trusted) if state.trusts(path) else Gate.closed()
    session = open_session(path, gate=gate)
    state.opened(path)
    return session
