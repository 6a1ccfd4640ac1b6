"""The guest disk through a whole chain of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..closing import Closing
from ..disk import Extent, ExtentBatch, ExtentKind, check_range, extents_of
from ..errors import NotFoundError
from ..findings import Finding
from ..formats.raw import RawImage
from ..image.image import Image
from ..layout.snapshots import Snapshot
from ..opening import AnyImage
from ..record import replace
from ..text import safe
from .layer import Layer

if TYPE_CHECKING:
    from ..storage.base import WritableBuffer

_ZEROS = (ExtentKind.UNALLOCATED, ExtentKind.ZERO, ExtentKind.ZERO_ALLOCATED)


class Chain(Closing):
    """A :class:`qcow.disk.Disk` over all layers, and the layers themselves.

    ``layers[0]`` is the top; the last may be one that was not opened.  Depth numbers in its map are
    indices into ``layers``.  Views of it (:meth:`at_layer`, :meth:`at_snapshot`) share the open
    files and are closed with it.
    """

    def __init__(
        self,
        layers: tuple[Layer, ...],
        problems: tuple[Finding, ...] = (),
        *,
        opened: ExitStack | None = None,
        label: str | None = None,
    ) -> None:
        self.layers = layers
        self.problems = problems
        self._opened = opened if opened is not None else ExitStack()
        top = layers[0].disk
        #: How commands address this state (raw text): ``active``, ``snapshot:ID`` or ``layer:N``.
        self.label = label if label is not None else "active" if top is None else top.label

    @property
    def image(self) -> AnyImage:
        """The image on top."""
        image = self.layers[0].image
        assert image is not None, "the top of a chain is open"
        return image

    @property
    def virtual_size(self) -> int:
        """Bytes the guest sees."""
        top = self.layers[0].disk
        return self.image.virtual_size if top is None else top.virtual_size

    @property
    def absent(self) -> int | None:
        """Index of the first layer whose bytes cannot be had, or None when the chain is whole."""
        return next((i for i, layer in enumerate(self.layers) if layer.disk is None), None)

    def runs(self, start: int = 0, length: int | None = None) -> Iterator[ExtentBatch]:
        """As :meth:`extents`, but answering also where a layer is absent.

        A range that would need the absent layer comes as UNALLOCATED with that layer's index as
        depth.  Raises GuestDataError when the top itself cannot be mapped.
        """
        stop = self.virtual_size if length is None else min(self.virtual_size, start + length)
        if start >= stop:
            return
        top = self.layers[0]
        if top.disk is None:
            raise top.absence(self._where(start, stop - start))
        if len(self.layers) == 1:
            yield from top.disk.extents(start, stop - start)
            return
        from .merging import chain_runs

        yield from chain_runs(self.layers, start, stop)

    def extents(self, start: int = 0, length: int | None = None) -> Iterator[ExtentBatch]:
        """The map, see :class:`qcow.disk.Disk`; UNALLOCATED reads as zeros.

        Raises ReferenceRefused or ReferenceMissing when a range needs the layer that is not there.
        """
        absent = self.absent
        for batch in self.runs(start, length):
            if absent is not None:
                needed = (batch.depth == absent).nonzero()[0]
                if len(needed):
                    first = int(needed[0])
                    where = self._where(int(batch.start[first]), int(batch.length[first]))
                    raise self.layers[absent].absence(where)
            yield batch

    def read(self, offset: int, length: int) -> bytes:
        """Guest bytes, see :class:`qcow.disk.Disk`."""
        check_range(offset, length, self.virtual_size)
        buffer = bytearray(length)
        self.read_into(offset, buffer)
        return bytes(buffer)

    def read_into(self, offset: int, buffer: WritableBuffer) -> None:
        """Fill ``buffer``, which must hold zeros, with the guest bytes from ``offset``.

        Raises as :meth:`read` does; the buffer then holds anything.
        """
        view = memoryview(buffer)
        check_range(offset, len(view), self.virtual_size)
        for batch in self.extents(offset, len(view)):
            for extent in extents_of(batch):
                at = extent.start - offset
                self._fill(extent, view[at : at + extent.length])

    def _fill(self, extent: Extent, view: memoryview) -> None:
        if extent.kind in _ZEROS:
            return
        layer = self.layers[extent.depth]
        disk = layer.disk
        if isinstance(disk, RawImage):
            disk.storage.read_into(extent.host, view)
            return
        if extent.kind is ExtentKind.DATA and layer.has_data_file and layer.data_file is None:
            raise layer.data_absence(self._where(extent.start, extent.length))
        from ..image.reader import fill

        assert disk is not None
        fill(disk, extent, view, layer.data_file)

    def _where(self, start: int, length: int) -> str:
        return f"Guest range {start:#x} to {start + length:#x} of {safe(self.image.name)}"

    def at_layer(self, index: int) -> Chain:
        """The disk as seen from layer ``index`` down; raises when that layer is not there.

        Raises NotFoundError beyond the last layer, ReferenceRefused or ReferenceMissing for one
        that was not opened.
        """
        if not 0 <= index < len(self.layers):
            raise NotFoundError(
                f"There is no layer {index} in the chain of {safe(self.image.name)}, which has "
                f"{len(self.layers)}."
            )
        layer = self.layers[index]
        if layer.disk is None:
            raise layer.absence(f"Layer {index} of the chain of {safe(self.image.name)}")
        label = f"layer:{index}" if index else None
        return Chain(self.layers[index:], label=label)

    def at_snapshot(self, snapshot: Snapshot) -> Chain:
        """A snapshot of the top image, through the same files.  Raises GuestDataError."""
        image = self.image
        if not isinstance(image, Image):
            raise NotFoundError(f"{safe(image.name)} is a raw file and has no snapshots.")
        state = image.snapshot_state(snapshot)
        return Chain((replace(self.layers[0], disk=state), *self.layers[1:]))

    def at_active(self) -> Chain:
        """The active disk of the top image, through the same files.  Raises GuestDataError."""
        return Chain((replace(self.layers[0], disk=self.image.active), *self.layers[1:]))

    def close(self) -> None:
        """Let go of the files that were opened for this chain; the top image stays open."""
        self._opened.close()
