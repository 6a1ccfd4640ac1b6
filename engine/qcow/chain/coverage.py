"""Which layer of a chain serves how much of the guest disk, and what a pane shows of each layer."""

from __future__ import annotations

from ..disk import ExtentKind
from ..image.image import Image
from ..jobs import CancelToken, ProgressCallback, Throttle
from ..record import record
from .disk import Chain
from .layer import LayerStatus

_STORED = (int(ExtentKind.DATA), int(ExtentKind.COMPRESSED))


@record
class LayerCoverage:
    """Guest bytes.  For a layer that is absent only ``served`` is known: what it would have to."""

    served: int  # of the disk on top, by this layer: data, and zeros it sets over what is below
    served_data: int  # the part of ``served`` that is stored data
    stored: int | None  # data this layer stores, seen or not

    @property
    def hidden(self) -> int | None:
        """Data stored here that a guest of the top does not see: covered above, or cut off."""
        return None if self.stored is None else self.stored - self.served_data


@record
class Coverage:
    """``layers`` go with those of the chain; ``unserved`` bytes are in none and read as zeros."""

    layers: tuple[LayerCoverage, ...]
    unserved: int


@record
class LayerInfo:
    """One line of a chain pane.  ``name``, ``path`` and formats are raw text; sizes are bytes."""

    depth: int
    name: bytes
    path: str | None
    format: str | None  # None: not opened
    stated_format: bytes | None
    virtual_size: int | None
    file_length: int | None
    disk_size: int | None  # space taken on the host
    status: LayerStatus
    reason: str  # a sentence, safe to show; empty when all is well
    data_file: bytes | None  # name of the external data file
    data_file_status: LayerStatus
    coverage: LayerCoverage | None  # None: not computed


def coverage(
    chain: Chain, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> Coverage:
    """Walk the map of the chain, and that of each layer, once.  Exact.

    Raises GuestDataError when the top cannot be mapped, Cancelled.
    """
    import numpy as np

    layers = len(chain.layers)
    absent = chain.absent
    total = chain.virtual_size
    if layers > 1:
        total += sum(layer.disk.virtual_size for layer in chain.layers if layer.disk is not None)
    report = Throttle(progress)
    done = 0

    def advance(length: int) -> None:
        nonlocal done
        done += length
        report("coverage", done, total, "bytes")
        if cancel is not None:
            cancel.check()

    # Guest bytes by (layer that serves them, kind of run).
    totals = np.zeros((layers, len(ExtentKind)), dtype=np.int64)
    for batch in chain.runs():
        np.add.at(totals, (batch.depth, batch.kind), batch.length)
        advance(int(batch.length.sum()))
    empty = totals[:, ExtentKind.UNALLOCATED].copy()
    if absent is not None:
        empty[absent] = 0
    results = []
    for depth, layer in enumerate(chain.layers):
        served_data = int(totals[depth, list(_STORED)].sum())
        held: int | None = None
        if layers == 1:
            held = served_data  # nothing lies above that could hide any of it
        elif layer.disk is not None:
            own = np.zeros(len(ExtentKind), dtype=np.int64)
            for batch in layer.disk.extents():
                np.add.at(own, batch.kind, batch.length)
                advance(int(batch.length.sum()))
            held = int(own[list(_STORED)].sum())
        served = int(totals[depth].sum() - empty[depth])
        results.append(LayerCoverage(served, served_data, held))
    return Coverage(tuple(results), int(empty.sum()))


def layer_infos(chain: Chain, computed: Coverage | None = None) -> tuple[LayerInfo, ...]:
    """What is to be shown of every layer; without ``computed`` nothing large is read."""
    infos = []
    for index, layer in enumerate(chain.layers):
        image = layer.image
        storage = None if image is None else image.storage
        size = None if image is None else image.virtual_size
        if layer.disk is not None:
            size = layer.disk.virtual_size
        infos.append(
            LayerInfo(
                depth=layer.depth,
                name=layer.name,
                path=layer.path,
                format=layer.format,
                stated_format=layer.stated_format,
                virtual_size=size,
                file_length=None if storage is None else storage.size(),
                disk_size=None if storage is None else storage.allocated_bytes(),
                status=layer.status,
                reason=layer.reason,
                data_file=image.data_file if isinstance(image, Image) else None,
                data_file_status=layer.data_file_status,
                coverage=None if computed is None else computed.layers[index],
            )
        )
    return tuple(infos)
