"""One image under a series of transactions, in earnest or as a dry run over its bytes.

An action is given an :class:`Editor` and cannot tell the two apart, so a plan is what would happen.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..chain import Chain, open_chain
from ..closing import Closing
from ..errors import EditRefused, IndeterminateError, QcowError, StorageError
from ..image.image import Image
from ..image.refcounts import refcount_table
from ..inspect.check import CheckResult, check
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..layout.constants import REFCOUNT_TABLE_OFFSET_MASK
from ..storage.base import WritableStorage
from ..storage.buffers import page_aligned
from ..storage.gate import Gate, Policy
from ..storage.locks import LockMode
from ..storage.writable import WritableFile
from ..text import safe
from .archive import archive_header
from .candidate import CandidateStorage
from .done import Done
from .history import History, unusual_mtime
from .history_entry import Entry, mark_of
from .history_file import subject_of
from .lower import Lower, as_planned
from .mending import Mending, composed, image_or_none
from .patch import Patch
from .plan import ImageMark, Outcome, Plan
from .repairing import Repair
from .switch import JournalSwitch, sector_0, write_before, write_switch
from .transaction import Transaction
from .verify import View, check_before, check_candidate, compare_views

AnyTransaction = TypeVar("AnyTransaction", bound=Transaction)


class Editor(Closing):
    """An image, its bytes, and what was done to them.  See :func:`qcow.edit.apply.apply`.

    ``image`` is always the present one: it is opened anew after every switch.  ``dry`` tells that
    nothing lasts, so that guest data need not be moved about for real.
    """

    def __init__(
        self,
        image: Image,
        storage: WritableStorage,
        *,
        dry: bool = False,
        gate: Gate | None = None,
        journal: JournalSwitch | None = None,
        check_place: Callable[[], None] | None = None,
        data_file: WritableStorage | None = None,
        device_size: int | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
        mending: Mending | None = None,
    ) -> None:
        """``storage`` writes the bytes that ``image`` reads; with ``mending`` it is seen so."""
        self.image = image
        self.storage = storage
        self.dry = dry
        self.gate = gate or Gate(Policy.CLOSED)
        self.data_file = data_file
        self.cancel = cancel
        #: For jobs that tell by themselves how far they got; actions call :meth:`step`.
        self.progress = progress
        self.tell = Throttle(progress)
        self.on = ImageMark.of(image.storage)
        self._history: History | None = None
        self._journal = journal or (_Direct(storage) if dry else _no_journal)
        self._mending = mending
        self._check_place = check_place or _nowhere
        self._device_size = device_size
        self._chain: Chain | None = None
        #: Opens the file at a depth of the chain for changing it; :meth:`below` asks it once each.
        self.open_below: Callable[[int], Lower] | None = None
        self._lower: dict[int, Lower] = {}
        self._leaks: int | None = None  # None: not checked yet
        self._digest: bytes | None = None  # of the present root's refcounts; None: not computed
        self._roots: list[bytes] = []  # sectors 0 of this editor's own earlier roots (dry runs)
        #: Bytes from the start of the file that a damaged earlier root may need (dry runs).
        self._held_below = 0
        self._start = 0  # the length of the file before the transaction
        self.start_count()

    # ---- for actions

    def step(self, phase: str, done: int, total: int, unit: str = "clusters") -> None:
        """Tell how far it got; a safe point to stop: raises Cancelled."""
        if self.cancel is not None:
            self.cancel.check()
        self.tell(phase, done, total, unit)

    def chain(self) -> Chain:
        """The guest disk through the backing files the gate lets pass; valid until a commit."""
        if self._chain is None:
            # Whoever applies holds the locks of all these files already; a dry run only looks.
            self._chain = open_chain(self.image, self.gate, lock=LockMode.SNOOP)
            self._chain = self.with_changes_below(self._chain)
        return self._chain

    def with_changes_below(self, chain: Chain) -> Chain:
        """``chain`` of the image with the files below it as a dry run left them; takes it over."""
        return as_planned(chain, self._lower) if self.dry and self._lower else chain

    def below(self, depth: int) -> Lower:
        """The file at ``depth`` of the chain, held for writing like the image itself.

        An action names such depths in ``writes_below``.  After a change there, :meth:`refresh`.
        """
        if depth not in self._lower:
            if self.open_below is None:
                raise EditRefused("The files below the image are not held for writing.")
            self._lower[depth] = self.open_below(depth)
            self.refresh()
        return self._lower[depth]

    def refresh(self) -> None:
        """Look at the files below anew: :meth:`chain` is another one from now on."""
        if self._chain is not None:
            self._chain.close()
            self._chain = None

    def begin(self) -> Transaction:
        """Start a transaction.  Raises EditRefused for an image that must be repaired first."""
        self.require_sound()
        return self._begin(Transaction)

    def require_sound(self) -> None:
        """Raise EditRefused when the image must be repaired before it is changed; checked once."""
        if self._leaks is None:
            self._leaks = self._must_be_sound()

    def begin_repair(self) -> Repair:
        """Start a transaction on an image that may be damaged."""
        return self._begin(Repair)

    @property
    def mending(self) -> Mending | None:
        """With which header the image is seen, where that is not the one in the file."""
        return self._mending

    def mend(self, mending: Mending) -> None:
        """See the image so from now on; the next commit, of a repair, makes it true."""
        self.refresh()
        self._mending = mending
        self.image = mending.seen(self.storage)

    def _begin(self, kind: type[AnyTransaction]) -> AnyTransaction:
        if self._history is not None and not self.dry:
            self._history.begin()
        held = [self._root(sector) for sector in self._held_sectors()]
        below = self._held_below if self._history is None else self._history.held_below
        self._start = self.storage.size()
        return kind(
            self.image,
            self.storage,
            held=held,
            held_below=max(below, self._held_below),
            device_size=self._device_size,
            tell=self.tell,
            cancel=self.cancel,
        )

    def commit(
        self,
        tx: Transaction,
        views: Sequence[View] | None = None,
        judge: Callable[[CheckResult], None] | None = None,
    ) -> None:
        """Finish ``tx``, check the result, and make it live with one switch.

        ``views`` says what guests shall see; without it, everything stays as it is.  ``judge`` is
        given the check of the result and raises when it will not do; without it, the result must
        have no errors and no other leaks than the image had.  Raises VerificationError,
        StorageError, Cancelled: then the image is the old one.
        """
        switch = tx.finish()
        if self._mending is not None:
            switch = composed(switch, self.image, self.storage)
        if not switch.patches:
            return
        write_before(self.storage, switch)
        patches = switch.patches
        candidate = Image(CandidateStorage(self.storage, patches))
        self.step("checking the result", 0, 1)
        if judge is None:
            found = check_candidate(candidate, self._leaks or 0, self.cancel)
            self._leaks = found.leaks + found.extra_leaks
        else:
            judge(check(candidate, cancel=self.cancel, decode=False))
            self._leaks = None
        expected = tx.kept_views() if views is None else views
        compare_views(self.image, candidate, expected, self.step, contents=not self.dry)
        self._make_live(patches, candidate, self._start if isinstance(tx, Repair) else 0)
        self._done.transaction(tx, patches, self.storage.size())
        self._mending = None
        self.image = Image(self.storage)

    def keep_history(self, history: History) -> None:
        """Note every switch in ``history``, and keep what it can go back to."""
        self._history = history

    @property
    def is_device(self) -> bool:
        """Whether the image lies on a block device, which has no end of its own."""
        return self._device_size is not None

    @property
    def undo_count(self) -> int:
        """Changes that undo could take back, one after the other."""
        return 0 if self._history is None else self._history.position

    def undo(self) -> Entry:
        """Switch back to the root before the last change; the entry taken back.

        Raises EditRefused when there is none or another program wrote to the image since.
        """
        history = self._past()
        why = history.why_not_undo(self.storage, self.generation)
        if why is not None or history.undoable is None:
            raise EditRefused(why or "There is nothing to undo.")
        entry = history.undoable
        patches = history.undo_patches()
        self._switch_back(entry, patches, history.prepare_undo, entry.old_generation)
        return entry

    def redo(self) -> Entry:
        """Switch forward again to the root after the change that was taken back last."""
        history = self._past()
        why = history.why_not_redo(self.storage, self.generation)
        if why is not None or history.redoable is None:
            raise EditRefused(why or "There is nothing to redo.")
        entry = history.redoable
        patches = history.redo_patches()
        self._switch_back(entry, patches, history.prepare_redo, entry.new_generation)
        return entry

    def forget_history(self, reason: str) -> None:
        """Give up undo, durably: the clusters of earlier roots may be taken from now on."""
        self._roots.clear()
        self._held_below = 0
        if self._history is not None and not self.dry:
            self._history.forget(reason)
        if self.dry:
            self._history = None

    @property
    def switches(self) -> int:
        """Switches of the present action that were made: each left a complete image."""
        return self._done.switches

    def count_returned(self, length: int) -> None:
        """Note bytes that were given back to the host."""
        self._done.returned += length

    # ---- counting what was done

    def start_count(self, command: str = "", action: Mapping[str, Any] | None = None) -> None:
        """Begin a new action, by its command line and description: all counts start at 0."""
        self._done = Done(command, action or {}, self.storage.size())

    def planned(self, verb: str, outcome: Outcome) -> Plan:
        """What was done since :meth:`start_count`."""
        return self._done.plan(verb, outcome, self.storage.size(), self.on)

    def abandon(self, error: BaseException) -> None:
        """After an action failed: give back what it wrote, and tell the history.

        After a failed write nothing more is written (the system may have lost track of it).
        """
        grown = self.storage.size() > self._done.length and self._device_size is None
        sound = isinstance(error, QcowError) and not isinstance(error, StorageError)
        if sound and grown and not self._done.switches:
            self.storage.truncate(self._done.length)
        # After an indeterminate switch the history finds out by itself when it is loaded again.
        told = isinstance(error, QcowError) and not isinstance(error, IndeterminateError)
        if self._history is not None and not self.dry and told:
            self._history.abandoned(mark_of(self.storage, self.generation()))

    def close(self) -> None:
        self.refresh()

    # ---- the inside

    def generation(self) -> bytes:
        """A digest of all refcounts: it changes when anybody takes or frees a cluster."""
        image = image_or_none(self.storage)
        return bytes(32) if image is None else refcount_digest(image)

    def _must_be_sound(self) -> int:
        if self._mending is not None:
            raise EditRefused(
                f"'{safe(self.image.name)}' has no usable header: it must be repaired before it is "
                "changed."
            )
        self.step("checking the image", 0, 1)
        return check_before(self.image, self.cancel)

    def _held_sectors(self) -> Iterator[bytes]:
        now = sector_0(self.storage)
        held = list(self._roots)
        if self._history is not None:
            held += self._history.held_roots()
        yield from (sector for sector in dict.fromkeys(held) if sector != now)

    def _root(self, sector: bytes) -> Image:
        patch = Patch(0, sector_0(self.storage), sector)
        return Image(CandidateStorage(self.storage, (patch,)))

    def _past(self) -> History:
        if self._history is None:
            raise EditRefused(f"There is nothing to undo in '{safe(self.image.name)}'.")
        return self._history

    def _switch_back(
        self,
        entry: Entry,
        patches: tuple[Patch, ...],
        announce: Callable[[], object],
        digest: bytes,
    ) -> None:
        """Go to another root of the history, whose tables are all there.

        ``digest``: of its refcounts, which are what they were when the entry was made.

        Raises VerificationError when that root is damaged, unless a repair lies between: then it is
        as damaged as it was, and nothing it may need has been written to since.
        """
        if not entry.held_below:
            candidate = Image(CandidateStorage(self.storage, patches))
            self.step("checking the earlier state", 0, 1)
            check_candidate(candidate, None, self.cancel)
        if not self.dry:
            announce()
        self._check_place()
        write_switch(self.storage, patches, self._journal, self._done.command)
        self._digest = digest
        self._settle_history(joined=False)
        self.close()
        self._see_again(patches)
        self._leaks = None
        self._done.switch(patches)

    def _see_again(self, patches: tuple[Patch, ...]) -> None:
        """Open the image anew: where it has no usable header again, as the repair saw it."""
        if image_or_none(self.storage) is not None or not patches:
            self._mending = None
            self.image = Image(self.storage)
            return
        header = bytearray(self.storage.read(0, patches[-1].end))
        for patch in patches:
            header[patch.offset : patch.end] = patch.before
        self.mend(Mending(bytes(header)))

    def _make_live(self, patches: tuple[Patch, ...], candidate: Image, held_below: int) -> None:
        """``held_below``: see :class:`~qcow.edit.history_entry.Entry`."""
        old = sector_0(self.storage)
        if self._history is not None and not self.dry:
            old_digest = self._digest or self.generation()
            entry = Entry(
                txid=secrets.token_hex(16),
                action=self._done.action,
                command=self._done.command,
                time_ns=time.time_ns(),
                patches=patches,
                old_sector=old,
                new_sector=sector_0(candidate.storage),
                old_generation=old_digest,
                new_generation=refcount_digest(candidate),
                held_below=held_below,
            )
            if not self._done.joined:
                self._archive(entry.txid)
            self._history.prepare(entry)
            self._digest = entry.new_generation
        elif not self._done.joined:
            if held_below:
                self._held_below = max(self._held_below, held_below)
            else:
                self._roots.append(old)
        if self.dry and self._history is not None:
            self._history = self._history.without_redo()
        self._check_place()
        write_switch(self.storage, patches, self._journal, self._done.command)
        self._settle_history(joined=self._done.joined)
        self._done.joined = True
        self.close()

    def _settle_history(self, *, joined: bool) -> None:
        if isinstance(self.storage, WritableFile):
            self.storage.set_modified(unusual_mtime())
        if self._history is not None and not self.dry:
            digest = self._digest or self.generation()
            self._history.done(mark_of(self.storage, digest), joined=joined)

    def _archive(self, txid: str) -> None:
        """Keep a copy of the header as it is, as a last resort for a person."""
        if self.storage.path is not None:
            header = self.storage.read(0, self.image.header.cluster_size)
            archive_header(subject_of(self.storage.path), header, txid)


def refcount_digest(image: Image) -> bytes:
    """SHA-256 over the refcount table and every refcount block that can be read."""
    geometry = image.usable_geometry_for_tables()
    table = refcount_table(image)
    digest = hashlib.sha256(table.tobytes())
    blocks = table & np.uint64(REFCOUNT_TABLE_OFFSET_MASK)
    inside = (blocks != 0) & (blocks < np.uint64(image.storage.size()))
    offsets = blocks[inside].astype(np.int64)
    size = geometry.cluster_size
    step = max(1, (1 << 20) // size)
    buffer = page_aligned(min(step, len(offsets)) * size).data
    for at in range(0, len(offsets), step):
        part = offsets[at : at + step].tolist()
        image.storage.read_pieces(part, size, buffer)
        digest.update(buffer[: len(part) * size])
    return digest.digest()


class _Direct:
    """Makes a switch of several sectors over bytes that are only laid over: no crash matters."""

    def __init__(self, storage: WritableStorage) -> None:
        self._storage = storage

    def __call__(self, patches: tuple[Patch, ...], command: str) -> None:
        for patch in patches:
            self._storage.write(patch.offset, patch.after)


def _no_journal(patches: tuple[Patch, ...], command: str) -> None:
    raise EditRefused("This change needs a journal, and there is no place for one.")


def _nowhere() -> None:
    """There is no path to look at."""
