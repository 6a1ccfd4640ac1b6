"""Reading out whatever can still be read of a damaged image, with a map of what cannot.

The map of the disk says beforehand which runs are lost (damaged mappings, files that are not there,
data behind the end of a truncated file); the others are read in large pieces, and a piece that
fails is halved until what fails is one cluster, or one sector of a disk that has bad ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..chain import Chain, open_chain
from ..disk import ExtentBatch, ExtentKind
from ..errors import (
    Cancelled,
    GuestDataError,
    ReferenceMissing,
    ReferenceRefused,
    StorageError,
)
from ..image.image import Image
from ..inspect.states import resolve_state
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..opening import AnyImage
from ..record import record
from ..storage.base import Storage
from ..storage.gate import Gate
from ..storage.locks import LockMode
from ..storage.salvaging import SalvagingStorage
from ..storage.writable import WritableFile
from ..text import safe
from .rescue_map import LOST, READ, UNTRIED, RescueMap
from .rescue_target import map_path, require_apart, save_map, target

#: Guest bytes read at a time.
_PIECE: Final = 4 << 20
#: Guest bytes whose mapping is looked at together.
_WINDOW: Final = 1 << 30
_SECTOR: Final = 512
#: Zeros of this length, aligned, become holes.
_BLOCK: Final = 4096
#: Seconds between two writings of the map.
_SAVE_EVERY: Final = 5.0
#: Classes of runs.
_ZERO, _DATA, _GONE = 0, 1, 2

_DAMAGED = "their mapping is damaged"
_BEHIND_END = "they lie behind the end of the file, which was truncated"
_UNDECODABLE = "what is stored of them is damaged"
_BAD_SECTORS = "the file they lie in cannot be read there"


@record
class Rescued:
    """How a rescue ended; all numbers are bytes of the disk.

    ``lost_ranges``: (start, length), ascending.  ``reasons``: why (the rest of a sentence about
    bytes) -> how many, of this run.  ``resumed``: bytes an earlier run had read already.
    """

    size: int
    read: int
    lost: int
    lost_ranges: tuple[tuple[int, int], ...]
    reasons: dict[str, int]
    resumed: int
    map_path: str

    def to_json(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "read": self.read,
            "lost": self.lost,
            "resumed": self.resumed,
            "map": safe(self.map_path, 4096),
            "reasons": dict(self.reasons),
            "lost-ranges": [{"start": start, "length": n} for start, n in self.lost_ranges],
        }


def rescue(
    image: AnyImage,
    out: str,
    *,
    state: str = "active",
    gate: Gate | None = None,
    force: bool = False,
    allow_network: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Rescued:
    """Write the disk in ``state`` (see ``resolve_state``) raw to ``out``, its map to ``out``.map.

    Where both files are there from an earlier rescue of this image, only what was not read is read
    again.  Any other file called ``out`` or ``out``.map needs ``force``, and gives way.  What
    cannot be read is zeros in ``out``.  Raises EditRefused, EncryptedError, GuestDataError when
    nothing is mapped at all, StorageError, and Cancelled, after which the same call goes on.
    """
    with ExitStack() as held:
        if isinstance(image, Image):
            image.require_plain()
            tables = [(image.header.l1_table_offset, image.header.l1_size * 8)]
            tables += [(one.l1_table_offset, one.l1_size * 8) for one in image.snapshots]
            image = Image(SalvagingStorage(image.storage, tables))
        chain = held.enter_context(
            open_chain(image, gate or Gate.own_folder(), lock=LockMode.READER)
        )
        disk = resolve_state(image, chain, state)
        if isinstance(image, Image):
            image.usable_geometry()
        require_apart(out, chain)
        label = f"Source: {safe(image.name, 4096)} ({safe(state, 300)})"
        done, file = target(out, disk.virtual_size, label, force, allow_network, held)
        job = _Rescue(disk, file, done, out, label, progress, cancel)
        return job.run()


class _Rescue:
    def __init__(
        self,
        disk: Chain,
        file: WritableFile,
        done: RescueMap,
        out: str,
        label: str,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        self._disk = disk
        self._file = file
        self._map = done
        self._out = out
        self._label = label
        self._tell = Throttle(progress)
        self._cancel = cancel
        self._reasons: dict[str, int] = {}
        self._buffer = bytearray(min(_PIECE, max(1, disk.virtual_size)))
        self._resumed = done.total(READ)
        self._done = self._resumed
        self._saved = time.monotonic()
        self._grain = max(
            (
                layer.image.geometry.cluster_size
                for layer in disk.layers
                if isinstance(layer.image, Image) and layer.image.geometry is not None
            ),
            default=_SECTOR,
        )
        self._gone_behind = np.array([self._end(index) for index in range(len(disk.layers))])

    def run(self) -> Rescued:
        try:
            for start, length in self._map.ranges(UNTRIED, LOST):
                for at in range(start, start + length, _WINDOW):
                    self._window(at, min(_WINDOW, start + length - at))
        except (Cancelled, KeyboardInterrupt):
            self._save()
            raise
        self._save()
        lost = tuple(self._map.ranges(LOST))
        return Rescued(
            self._map.size,
            self._map.total(READ),
            self._map.total(LOST),
            lost,
            self._reasons,
            self._resumed,
            map_path(self._out),
        )

    # -- the map ----------------------------------------------------------------------------------

    def _window(self, start: int, length: int) -> None:
        """Rescue a range; where its mapping cannot even be looked at, parts of it."""
        try:
            batches = list(self._disk.runs(start, length))
        except (GuestDataError, StorageError) as error:
            if length <= self._grain:
                self._lose(start, length, _why(error))
                return
            for at, part in _halves(start, length, self._grain):
                self._window(at, part)
            return
        for batch in batches:
            self._batch(batch)

    def _batch(self, batch: ExtentBatch) -> None:
        classes, reasons = self._classify(batch)
        breaks = np.flatnonzero((classes[1:] != classes[:-1]) | (reasons[1:] != reasons[:-1])) + 1
        heads = np.concatenate((np.zeros(1, dtype=np.int64), breaks))
        starts = batch.start[heads]
        end = int(batch.start[-1] + batch.length[-1])
        lengths = np.diff(starts, append=np.int64(end))
        for start, length, kind, reason in zip(
            starts.tolist(),
            lengths.tolist(),
            classes[heads].tolist(),
            reasons[heads].tolist(),
            strict=True,
        ):
            if kind == _ZERO:
                self._erase(start, length)
                self._mark(start, length, READ)
            elif kind == _DATA:
                for at in range(start, start + length, _PIECE):
                    self._read(at, min(_PIECE, start + length - at))
            else:
                self._lose(start, length, self._known_reason(reason))

    def _classify(self, batch: ExtentBatch) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The class of each run, and of those that are lost why: -1 damaged mapping, -2 behind the
        end of the file, or the number of the layer that is not there."""
        kind, depth = batch.kind, batch.depth.astype(np.int64)
        classes = np.where(kind <= ExtentKind.ZERO_ALLOCATED, np.uint8(_ZERO), np.uint8(_DATA))
        reasons = np.zeros(len(kind), dtype=np.int64)
        behind = (kind == ExtentKind.DATA) & (batch.host >= self._gone_behind[depth])
        corrupt = kind == ExtentKind.CORRUPT
        for mask, reason in ((behind, -2), (corrupt, -1)):
            classes[mask] = _GONE
            reasons[mask] = reason
        absent = self._disk.absent
        for number, layer in enumerate(self._disk.layers):
            mask = np.zeros(len(kind), dtype=bool)
            if number == absent:
                mask = depth == number
            elif layer.has_data_file and layer.data_file is None:
                mask = (depth == number) & (kind == ExtentKind.DATA)
            classes[mask] = _GONE
            reasons[mask] = number
        return classes, reasons

    def _known_reason(self, reason: int) -> str:
        if reason < 0:
            return _DAMAGED if reason == -1 else _BEHIND_END
        layer = self._disk.layers[reason]
        if layer.disk is None:
            return f"they lie in '{layer.shown}', which is not open: {layer.reason}"
        return f"they lie in the data file of '{layer.shown}': {layer.data_file_reason}"

    def _end(self, number: int) -> int:
        """From which host offset on the data of a layer is not there at all."""
        layer = self._disk.layers[number]
        image = layer.image
        if not isinstance(image, Image) or layer.has_data_file or image.geometry is None:
            return 1 << 62
        size = image.geometry.cluster_size
        return -(-image.storage.size() // size) * size

    # -- the bytes --------------------------------------------------------------------------------

    def _read(self, start: int, length: int) -> None:
        if self._cancel is not None:
            self._cancel.check()
        view = memoryview(self._buffer)[:length]
        view[:] = bytes(length)
        try:
            self._disk.read_into(start, view)
        except (GuestDataError, StorageError, ReferenceMissing, ReferenceRefused) as error:
            grain = _SECTOR if isinstance(error, StorageError) else self._grain
            if length <= grain:
                self._lose(start, length, _why(error))
                return
            for at, part in _halves(start, length, grain):
                self._read(at, part)
            return
        self._write(start, view)
        self._mark(start, length, READ)

    def _write(self, start: int, view: memoryview) -> None:
        """Put bytes into the file; blocks of zeros stay, or become, holes."""
        data = np.frombuffer(view, dtype=np.uint8)
        blocks = np.add.reduceat(data != 0, np.arange(0, len(data), _BLOCK)) > 0
        if blocks.all():
            self._file.write(start, view)
            return
        edges = np.flatnonzero(np.diff(blocks)) + 1
        bounds = [0, *(edges * _BLOCK).tolist(), len(data)]
        for low, high in pairwise(bounds):
            if blocks[low // _BLOCK]:
                self._file.write(start + low, view[low:high])
            else:
                self._erase(start + low, high - low)

    def _erase(self, start: int, length: int) -> None:
        """Zeros; a run that was broken off may have left something there."""
        if self._holds_data(start, length):
            self._file.punch(start, length)

    def _holds_data(self, start: int, length: int) -> bool:
        file: Storage = self._file
        return any(is_data for _, _, is_data in file.extents(start, length))

    def _lose(self, start: int, length: int, reason: str) -> None:
        self._erase(start, length)
        self._reasons[reason] = self._reasons.get(reason, 0) + length
        self._mark(start, length, LOST)

    def _mark(self, start: int, length: int, state: str) -> None:
        self._map.mark(start, length, state)
        self._done += length
        if self._cancel is not None:
            self._cancel.check()
        self._tell("rescuing", min(self._done, self._map.size), self._map.size, "bytes")
        if time.monotonic() - self._saved >= _SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        """Make durable what was read, then the map that says so."""
        self._file.flush()
        save_map(self._out, self._map, self._label)
        self._saved = time.monotonic()


def _halves(start: int, length: int, grain: int) -> Iterator[tuple[int, int]]:
    """Two parts of a range, parted at a multiple of ``grain`` of the disk."""
    middle = (start + length // 2) // grain * grain
    if middle <= start:
        middle = start // grain * grain + grain
    if middle >= start + length:
        middle = start + length // 2
    yield start, middle - start
    yield middle, start + length - middle


def _why(error: Exception) -> str:
    return _BAD_SECTORS if isinstance(error, StorageError) else _UNDECODABLE
