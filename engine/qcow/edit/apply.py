"""Plan and apply: the same action over bytes that are laid over, or in earnest under the locks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from ..chain import Chain, open_chain
from ..closing import Closing
from ..errors import ChangedError, EditRefused
from ..formats.raw import RawImage
from ..image.image import Image
from ..jobs import CancelToken, ProgressCallback
from ..opening import AnyImage
from ..opening import open as open_image
from ..record import record
from ..storage.base import Storage
from ..storage.gate import Gate, Policy
from ..storage.local import LocalFile
from ..storage.locks import LockMode
from ..storage.overlay import OverlayStorage
from ..storage.writable import WritableFile
from ..text import safe
from .editor import Editor
from .history import History
from .journal_place import places_of
from .journal_switch import Outcome as Recovered
from .journal_switch import RecoveryResult, recover, switch_through_journal
from .locking import LockReport, WriteAccess, lock_for_writing
from .lower import Lower
from .mending import Mending
from .patch import Patch
from .plan import ImageMark, Outcome, Plan


class Action(Protocol):
    """A change with all its choices made: an immutable value.

    ``verb`` is the command's name.  ``writes_below``: depths of the chain that are changed besides
    the image itself.
    """

    @property
    def verb(self) -> str: ...

    @property
    def writes_below(self) -> tuple[int, ...]: ...

    def command(self, path: str) -> str:
        """The command line that does the same to the image at ``path``."""

    def describe(self) -> dict[str, Any]:
        """The choices as JSON values."""

    def run(self, editor: Editor) -> Outcome:
        """Do it.  Raises EditRefused, UsageError, NotFoundError: then nothing was changed."""


class Preview(Closing):
    """Actions planned one after the other; ``editor.image`` is the image as it would be then."""

    def __init__(
        self,
        image: AnyImage,
        *,
        mending: Mending | None = None,
        gate: Gate | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """Nothing is written to ``image``, which stays the caller's and open meanwhile.

        ``mending``: how the image is seen until it is repaired; it may be no qcow2 image without.
        """
        overlay = OverlayStorage(image.storage)
        self._held = ExitStack()
        self._held.callback(overlay.close)
        self.editor = Editor(
            Image(overlay) if mending is None else mending.seen(overlay),
            overlay,
            dry=True,
            gate=gate,
            progress=progress,
            cancel=cancel,
            mending=mending,
            device_size=image.storage.size() if is_device(image.storage) else None,
        )
        self._held.callback(self.editor.close)
        self.editor.on = ImageMark.of(image.storage)
        self._path = image.storage.path or image.storage.name
        history = None if image.storage.path is None else _history(self._path, self.editor)
        if history is not None:
            self.editor.keep_history(history)
        self.editor.open_below = self._open_below

    @property
    def image(self) -> Image:
        """The image as it would be after all actions added."""
        return self.editor.image

    def add(self, action: Action) -> Plan:
        """Plan one more action, on what those before it lead to.

        After an error (as ``apply`` would raise it) the preview is of no more use.
        """
        return _run(self.editor, action, self._path)

    def close(self) -> None:
        self._held.close()

    def _open_below(self, depth: int) -> Lower:
        """Bytes laid over a file of the chain, as of the image itself."""
        top = self.editor
        chain = self._held.enter_context(open_chain(top.image, top.gate, lock=LockMode.SNOOP))
        image = chain.at_layer(depth).image
        overlay = OverlayStorage(image.storage)
        self._held.callback(overlay.close)
        if isinstance(image, RawImage):
            return Lower(overlay, None)
        editor = Editor(
            Image(overlay),
            overlay,
            dry=True,
            gate=top.gate,
            progress=top.progress,
            cancel=top.cancel,
        )
        self._held.callback(editor.close)
        editor.on = ImageMark.of(image.storage)
        if overlay.path is not None:
            editor.keep_history(_history(overlay.path, editor))
        return Lower(overlay, editor)


@record
class Applied:
    """What was done.  ``recovered`` tells of an earlier change that was completed first."""

    plans: tuple[Plan, ...]
    locks: LockReport
    recovered: RecoveryResult | None = None


def plan(
    action: Action,
    image: AnyImage,
    *,
    mending: Mending | None = None,
    gate: Gate | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Plan:
    """What ``action`` would do to ``image``; nothing is written to it."""
    with Preview(image, mending=mending, gate=gate, progress=progress, cancel=cancel) as preview:
        return preview.add(action)


def apply(
    path: str,
    actions: Sequence[Action],
    *,
    planned_on: ImageMark | None = None,
    mending: Mending | None = None,
    gate: Gate | None = None,
    own: Iterable[LocalFile] = (),
    allow_network: bool = False,
    keep_history: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Applied:
    """Carry out ``actions`` on the qcow2 image at ``path``, each with its own switch and undo.

    ``planned_on`` is the ``on`` of the first plan: raises ChangedError when the image is no longer
    that one.  ``mending``: the header with which a file is seen that lost its own, for a repair as
    the first action.  ``own``: files this process has open itself (see ``lock_for_writing``).

    Raises LockedError, EditRefused, StorageError, VerificationError, Cancelled; the actions before
    the one that failed are done, that one is not.
    """
    with open_for_change(
        path,
        also=tuple({depth for action in actions for depth in action.writes_below}),
        mending=mending,
        gate=gate,
        own=own,
        allow_network=allow_network,
        keep_history=keep_history,
        progress=progress,
        cancel=cancel,
    ) as change:
        if planned_on is not None:
            change.require(planned_on)
        done = tuple(change.run(action) for action in actions)
        return Applied(done, change.access.report, change.recovered)


class Change(Closing):
    """An image held for writing, its editor and its history, until it is closed."""

    def __init__(
        self,
        path: str,
        editor: Editor,
        access: WriteAccess,
        history: History | None,
        recovered: RecoveryResult | None,
        held: ExitStack,
    ) -> None:
        self.editor = editor
        self.access = access
        self.history = history
        self.recovered = recovered
        self._path = path
        self._held = held

    def require(self, planned_on: ImageMark) -> None:
        """Raise ChangedError unless the image is still the one a plan was made on (its ``on``)."""
        if planned_on != self.editor.on:
            raise ChangedError(
                f"'{safe(self._path)}' is no longer the image the plan was made on: plan it again."
            )

    def run(self, action: Action) -> Plan:
        """Carry out one action.  Raises as :func:`apply`; ``editor.switches`` tells how far."""
        return _run(self.editor, action, self._path)

    def close(self) -> None:
        self._held.close()


def open_for_change(
    path: str,
    *,
    also: tuple[int, ...] = (),
    mending: Mending | None = None,
    gate: Gate | None = None,
    own: Iterable[LocalFile] = (),
    allow_network: bool = False,
    keep_history: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Change:
    """Hold the image at ``path`` for writing: locks, an unfinished journal, history, editor.

    ``mending``: how the image is seen until it is repaired.  Raises as :func:`apply`.
    """
    gate = gate or Gate(Policy.OWN_FOLDER)
    own = tuple(own)
    # First, and alone: with a header half old and half new nothing else can be relied on.
    recovered = recover_journal(path, own=own, allow_network=allow_network)
    with ExitStack() as held:
        chain = None
        lock = LockMode.READER if not own else LockMode.SNOOP
        looked = open_image(path, format=None if mending is None else "raw", lock=lock)
        held.callback(looked.close)
        if not isinstance(looked, Image):
            if mending is None:
                raise EditRefused(
                    f"'{safe(path)}' is a raw image; only qcow2 images can be changed."
                )
        elif looked.backing is not None or looked.data_file is not None:
            mode = LockMode.READER if not own else LockMode.SNOOP
            chain = held.enter_context(open_chain(looked, gate, lock=mode))
            if _recover_below(chain, also, own, allow_network):
                chain.close()
                chain = held.enter_context(open_chain(looked, gate, lock=mode))
        files = [*own]
        if isinstance(looked.storage, LocalFile):
            files.append(looked.storage)
        access = held.enter_context(
            lock_for_writing(path, chain=chain, also=also, own=files, allow_network=allow_network)
        )
        hold = _Holding(access, gate, keep_history, progress, cancel, held, mending)
        editor, history = hold.editor(0, path)

        def open_below(depth: int) -> Lower:
            if chain is None:
                raise EditRefused(f"'{safe(path)}' has no backing file.")
            image = chain.at_layer(depth).image
            if isinstance(image, RawImage):
                return Lower(access.layers[depth], None)
            return Lower(access.layers[depth], hold.editor(depth, image.name)[0])

        editor.open_below = open_below
        return Change(path, editor, access, history, recovered, held.pop_all())


def _recover_below(
    chain: Chain, also: tuple[int, ...], own: tuple[LocalFile, ...], allow_network: bool
) -> bool:
    """Complete what journals of the layers at ``also`` say; whether there was anything."""
    found = False
    for layer in chain.layers:
        if layer.depth in also and layer.path is not None:
            file = None if layer.image is None else layer.image.storage
            mine = (*own, file) if isinstance(file, LocalFile) else own
            done = recover_journal(layer.path, own=mine, allow_network=allow_network)
            found |= done is not None
    return found


class _Holding:
    """Makes the editors of the files that an access holds; ``held`` closes them."""

    def __init__(
        self,
        access: WriteAccess,
        gate: Gate,
        keep_history: bool,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
        held: ExitStack,
        mending: Mending | None,
    ) -> None:
        self._access = access
        self._mending = mending
        self._gate = gate
        self._keep_history = keep_history
        self._progress = progress
        self._cancel = cancel
        self._held = held

    def editor(self, depth: int, path: str) -> tuple[Editor, History | None]:
        """The editor of the qcow2 image at ``depth``, which was opened as ``path``."""
        file = self._access.layers[depth]
        mending = None if depth else self._mending
        image = Image(file) if mending is None else mending.seen(file)

        def through_journal(patches: tuple[Patch, ...], command: str) -> None:
            switch_through_journal(file, places_of(path)[0], patches, command)

        editor = Editor(
            image,
            file,
            gate=self._gate,
            journal=through_journal,
            check_place=self._access.check_place,
            data_file=self._access.data_files.get(depth),
            device_size=file.size() if file.is_device else None,
            progress=self._progress,
            cancel=self._cancel,
            mending=mending,
        )
        self._held.callback(editor.close)
        editor.on = ImageMark.of(file)  # of the file itself, however it is seen
        if not self._keep_history:
            self._held.callback(_tell_why_lost, path, editor, file)
            return editor, None
        history = _history(path, editor)
        editor.keep_history(history)
        return editor, history


def _tell_why_lost(path: str, editor: Editor, file: WritableFile) -> None:
    """After a change that nothing was kept of: what the history says of the changes before it."""
    if not editor.dry and editor.on != ImageMark.of(file):
        history = History.load(path, file, editor.generation)
        history.forget("it was changed without keeping a way back, as was asked for")


def _history(path: str, editor: Editor) -> History:
    """The undo history of the image, without entries that another program's write made worthless.

    For a dry run nothing is written: the entries are dropped in memory alone.
    """
    history = History.load(path, editor.image.storage, editor.generation)
    if why := history.why_worthless(editor.image.storage, editor.generation):
        if editor.dry:
            return history.without_entries(why)
        history.forget(why)
    return history


def is_device(storage: Storage) -> bool:
    """Whether the bytes are those of a block device, which cannot grow."""
    return isinstance(storage, LocalFile) and storage.is_device


def _run(editor: Editor, action: Action, path: str) -> Plan:
    editor.start_count(action.command(path), action.describe())
    try:
        outcome = action.run(editor)
    except BaseException as error:
        editor.abandon(error)
        raise
    if outcome.no_undo and editor.undo_count:
        # The tables could be brought back, what they name could not.
        editor.forget_history(outcome.no_undo.rstrip("."))
    return editor.planned(action.verb, outcome)


def recover_journal(
    path: str, *, own: Iterable[LocalFile] = (), allow_network: bool = False
) -> RecoveryResult | None:
    """Complete the change that a journal of the image at ``path`` holds; None when there is none.

    Raises EditRefused when the journal may not be used, LockedError, StorageError.
    """
    places = places_of(path)
    if not any(place.has_anything() for place in places):
        return None
    found = None
    with lock_for_writing(path, own=own, allow_network=allow_network) as access:
        for place in places:
            result = recover(access.file, place)
            if result.outcome is Recovered.REFUSED:
                raise EditRefused(result.reason)
            if result.outcome is not Recovered.NOTHING:
                found = result
    return found
