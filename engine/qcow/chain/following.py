"""Following a backing chain: every file below an image is opened through the gate, or told of."""

from __future__ import annotations

import os
from contextlib import ExitStack

from ..errors import (
    FormatError,
    GuestDataError,
    LockedError,
    QcowError,
    ReferenceMissing,
    ReferenceRefused,
    StorageError,
    UnsupportedFormat,
)
from ..findings import Finding, FindingKind
from ..formats.probe import PROBE_LENGTH, probe
from ..formats.raw import RawImage
from ..image.image import Image
from ..image.state import State
from ..layout.snapshots import Snapshot
from ..opening import AnyImage, open_storage
from ..record import replace
from ..storage.base import Storage
from ..storage.gate import Gate, Policy, Purpose, combine, has_protocol
from ..storage.local import LocalFile
from ..storage.locks import ImageLock, LockMode
from ..text import safe, size_and_bytes
from . import problems as P
from .disk import Chain
from .layer import Layer, LayerStatus

#: Backing files followed below an image, and with the explicit grant.
MAX_DEPTH = 64
MAX_DEPTH_FOLLOW = 256

_KINDS = {
    LayerStatus.REFUSED: P.REFUSED,
    LayerStatus.MISSING: P.MISSING,
    LayerStatus.CYCLIC: P.CYCLIC,
    LayerStatus.TOO_DEEP: P.TOO_DEEP,
    LayerStatus.WRONG_FORMAT: P.WRONG_FORMAT,
    LayerStatus.UNSUPPORTED: P.UNSUPPORTED,
    LayerStatus.IN_USE: P.IN_USE,
    LayerStatus.DAMAGED: P.DAMAGED,
}


def open_chain(
    image: AnyImage,
    gate: Gate,
    *,
    state: Snapshot | None = None,
    lock: LockMode = LockMode.READER,
) -> Chain:
    """The guest disk of ``image`` through every file below it that ``gate`` lets pass.

    ``state`` picks a snapshot instead of the active disk; ``lock`` is held on every file opened
    here.  Following ends at the first file that cannot be opened, which becomes the last layer and
    a finding; it is no error before a range needs it.  ``image`` stays the caller's; the chain
    closes what was opened here.

    Raises GuestDataError when ``state`` cannot be read.
    """
    with ExitStack() as opened:
        follower = _Follower(gate, lock, opened)
        layers = follower.follow(image, state)
        return Chain(layers, tuple(follower.problems), opened=opened.pop_all())


class _Unusable(Exception):
    """A file that does not become a layer of the disk."""

    def __init__(self, status: LayerStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _Follower:
    def __init__(self, gate: Gate, lock: LockMode, opened: ExitStack) -> None:
        self.problems: list[Finding] = []
        self._gate = gate
        self._lock = lock
        self._opened = opened
        self._limit = MAX_DEPTH_FOLLOW if gate.policy is Policy.FOLLOW else MAX_DEPTH
        self._seen: set[tuple[int, int]] = set()

    def follow(self, image: AnyImage, snapshot: Snapshot | None) -> tuple[Layer, ...]:
        top = self._top(image, snapshot)
        layers = [top]
        while True:
            above = layers[-1].image
            if not isinstance(above, Image) or above.backing is None:
                return tuple(layers)
            layers.append(self._below(layers[-1], above))
            self._compare(layers[-2], layers[-1])

    def _top(self, image: AnyImage, snapshot: Snapshot | None) -> Layer:
        self._remember(image.storage)
        status, reason = LayerStatus.OK, ""
        disk: State | RawImage | None = None
        if isinstance(image, Image) and snapshot is not None:
            disk = image.snapshot_state(snapshot)
        else:
            try:
                disk = image.active
            except GuestDataError as error:
                status, reason = LayerStatus.DAMAGED, str(error)
        layer = Layer(
            depth=0,
            name=os.fsencode(image.name),
            path=image.storage.path,
            stated_format=None,
            status=status,
            reason=reason,
            image=image,
            disk=disk,
        )
        return self._with_data_file(layer, trusted=True)

    def _below(self, above: Layer, image: Image) -> Layer:
        assert image.backing is not None
        name, stated = image.backing.name, image.backing.format or None
        path = image.storage.path
        layer = Layer(
            depth=above.depth + 1,
            name=name,
            path=None if path is None or has_protocol(name) else combine(path, name),
            stated_format=stated,
        )
        status, reason, opened, disk = LayerStatus.OK, "", None, None
        try:
            opened = self._open_backing(layer, above, image)
            disk = opened.active
        except _Unusable as unusable:
            status, reason = unusable.status, unusable.reason
        except GuestDataError as error:
            status, reason = LayerStatus.DAMAGED, str(error)
        if status is not LayerStatus.OK:
            self._report(_KINDS[status], reason)
        layer = replace(layer, status=status, reason=reason, image=opened, disk=disk)
        return self._with_data_file(layer, trusted=stated is not None)

    def _open_backing(self, layer: Layer, above: Layer, image: Image) -> AnyImage:
        if above.depth and above.stated_format is None:
            raise _Unusable(
                LayerStatus.REFUSED,
                f"The backing file '{safe(layer.name)}' is not opened: the format of "
                f"'{above.shown}', which names it, was guessed.",
            )
        if above.depth >= self._limit:
            raise _Unusable(
                LayerStatus.TOO_DEEP,
                f"The backing file '{layer.shown}' is not opened: {self._limit} backing files were "
                "followed already.",
            )
        storage = self._open_reference(image, layer.name, layer.stated_format, "backing file")
        with ExitStack() as undo:
            undo.callback(storage.close)
            if storage.identity() in self._seen:
                raise _Unusable(
                    LayerStatus.CYCLIC,
                    f"The backing file '{layer.shown}' of '{above.shown}' already stands above it "
                    "in the chain.",
                )
            opened = self._interpret(storage, layer)
            undo.pop_all()
        self._opened.callback(storage.close)
        self._remember(storage)
        return opened

    def _open_reference(
        self, image: Image, name: bytes, stated: bytes | None, purpose: Purpose
    ) -> LocalFile:
        try:
            storage = self._gate.open_reference(image.storage, name, stated, purpose)
        except ReferenceRefused as refused:
            raise _Unusable(LayerStatus.REFUSED, str(refused)) from refused
        except ReferenceMissing as missing:
            raise _Unusable(LayerStatus.MISSING, str(missing)) from missing
        try:
            ImageLock().acquire(storage.fileno(), self._lock, storage.name)
        except QcowError as error:
            storage.close()
            status = LayerStatus.IN_USE if isinstance(error, LockedError) else LayerStatus.MISSING
            reason = str(error).replace("\n", ". ")
            raise _Unusable(
                status, f"The {purpose} '{safe(storage.name)}' is not read: {reason}"
            ) from error
        return storage

    def _interpret(self, storage: LocalFile, layer: Layer) -> AnyImage:
        """Open ``storage`` as the format stated for it; only where none is stated, probe it."""
        stated = layer.stated_format
        try:
            found = probe(storage.read(0, PROBE_LENGTH))
            format = found if stated is None else os.fsdecode(stated)
            opened = open_storage(storage, format=format)
        except (FormatError, UnsupportedFormat) as error:
            wrong = stated == b"qcow2"
            raise _Unusable(
                LayerStatus.WRONG_FORMAT if wrong else LayerStatus.UNSUPPORTED,
                f"The backing file cannot be used. {error}",
            ) from error
        except StorageError as error:
            raise _Unusable(LayerStatus.MISSING, f"{error}.") from error
        if stated is None:
            self._report(
                P.FORMAT_GUESSED,
                f"The format of the backing file '{layer.shown}' is not stated; by its first bytes "
                f"it is {found}.",
            )
        elif format == "raw" and found != "raw":
            self._report(
                P.FORMAT_DOUBTFUL,
                f"The backing file '{layer.shown}' is stated to be raw, but starts like a "
                f"{found} image.",
            )
        return opened

    def _with_data_file(self, layer: Layer, *, trusted: bool) -> Layer:
        """Open the external data file of a layer, if its data lies in one."""
        image = layer.image
        if not isinstance(image, Image) or not image.header.has_data_file or not image.data_file:
            return layer
        shown = safe(image.data_file)
        storage: Storage | None = None
        status, reason = LayerStatus.OK, ""
        try:
            if not trusted:
                raise _Unusable(
                    LayerStatus.REFUSED,
                    f"The data file '{shown}' is not opened: the format of '{layer.shown}', which "
                    "names it, was guessed.",
                )
            opened = self._open_reference(image, image.data_file, None, "data file")
            if opened.identity() == image.storage.identity():
                opened.close()
                raise _Unusable(
                    LayerStatus.CYCLIC,
                    f"The data file '{shown}' is the image '{layer.shown}' itself.",
                )
            storage = opened
            self._opened.callback(storage.close)
        except _Unusable as unusable:
            status, reason = unusable.status, unusable.reason
            refused = status is LayerStatus.REFUSED
            self._report(P.DATA_FILE_REFUSED if refused else P.DATA_FILE_MISSING, reason)
        return replace(layer, data_file=storage, data_file_status=status, data_file_reason=reason)

    def _compare(self, above: Layer, below: Layer) -> None:
        """What an overlay and its base should have in common."""
        if above.image is None or below.image is None or below.disk is None:
            return
        size = above.image.virtual_size if above.disk is None else above.disk.virtual_size
        base = below.disk.virtual_size
        if base != size:
            larger = base > size
            self._report(
                P.BASE_LARGER if larger else P.BASE_SMALLER,
                f"The backing file '{below.shown}' has a disk of {size_and_bytes(base)}, "
                f"{'more' if larger else 'less'} than the {size_and_bytes(size)} of "
                f"'{above.shown}'.",
            )
        files = (above.image.storage, below.image.storage)
        if any(not isinstance(file, LocalFile) or file.is_device for file in files):
            return  # only a regular file has a time at which its contents changed
        written, base_written = (file.modified()[1] for file in files)
        if base_written > written:
            self._report(
                P.BASE_NEWER,
                f"The backing file '{below.shown}' was changed "
                f"{_later((base_written - written) / 1e9)} later than '{above.shown}'.",
            )

    def _remember(self, storage: Storage) -> None:
        identity = storage.identity()
        if identity is not None:
            self._seen.add(identity)

    def _report(self, kind: FindingKind, what: str) -> None:
        data_file = kind in (P.DATA_FILE_MISSING, P.DATA_FILE_REFUSED)
        structure = "data file" if data_file else "backing file"
        self.problems.append(Finding(kind, what, structure=structure))


def _later(seconds: float) -> str:
    """A span of time in the unit a person would choose."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} seconds"
