"""Guest data that lies as it is in a file: it can be compared and copied without a detour."""

from __future__ import annotations

from typing import NamedTuple

from ..chain import Chain
from ..disk import Extent, ExtentKind
from ..image.image import Image
from ..storage.base import Storage


class Place(NamedTuple):
    """Bytes of ``storage`` from ``host`` on."""

    storage: Storage
    host: int


def place_of(chain: Chain, extent: Extent) -> Place | None:
    """Where all bytes of a run of the map of ``chain`` are; None where it takes more to read it."""
    if extent.kind is not ExtentKind.DATA or extent.host < 0:
        return None
    layer = chain.layers[extent.depth]
    if layer.image is None or (isinstance(layer.image, Image) and layer.image.encrypted):
        return None
    storage = layer.data_file if layer.has_data_file else layer.image.storage
    if storage is None or extent.host + extent.length > storage.size():
        return None
    return Place(storage, extent.host)
