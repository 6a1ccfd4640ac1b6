"""One file of a chain, opened or not."""

from __future__ import annotations

from enum import Enum

from ..errors import GuestDataError, QcowError, ReferenceMissing, ReferenceRefused
from ..formats.raw import RawImage
from ..image.image import Image
from ..image.state import State
from ..opening import AnyImage
from ..record import record
from ..storage.base import Storage
from ..text import safe


class LayerStatus(Enum):
    """Whether guest bytes can be had from a layer, else why not; the value is for people."""

    OK = "ok"
    REFUSED = "refused"
    MISSING = "missing"
    CYCLIC = "cyclic"
    TOO_DEEP = "too deep"
    WRONG_FORMAT = "wrong format"
    UNSUPPORTED = "unsupported format"
    IN_USE = "in use"
    DAMAGED = "damaged"


@record
class Layer:
    """One file of a chain.  ``name`` and ``path`` are raw text: through ``safe`` before showing."""

    depth: int  # 0 is the image the chain was opened for
    name: bytes  # as the layer above states it; for the top the path it was opened by
    path: str | None  # what the name means as a path, not normalised; None: it can be none
    stated_format: bytes | None  # by the layer above; None: it states none
    status: LayerStatus = LayerStatus.OK
    reason: str = ""  # why it is not OK: a sentence, safe to show
    image: AnyImage | None = None  # None: not opened
    disk: State | RawImage | None = None  # what the chain reads of it; None unless OK
    data_file: Storage | None = None  # the opened external data file
    data_file_status: LayerStatus = LayerStatus.OK  # OK also where there is none
    data_file_reason: str = ""

    @property
    def shown(self) -> str:
        """Its path, or else its name, safe to show."""
        return safe(self.name if self.path is None else self.path)

    @property
    def format(self) -> str | None:
        """The format it was opened as."""
        return None if self.image is None else self.image.format

    @property
    def has_data_file(self) -> bool:
        return isinstance(self.image, Image) and self.image.header.has_data_file

    def absence(self, where: str) -> QcowError:
        """The error for bytes (``where``: the range, as a noun) this layer cannot serve."""
        return _error(self.status, self.depth, where, self.reason)

    def data_absence(self, where: str) -> QcowError:
        """The error for bytes that lie in the data file, which is not open."""
        return _error(self.data_file_status, 1, where, self.data_file_reason)


def _error(status: LayerStatus, depth: int, where: str, reason: str) -> QcowError:
    kind = ReferenceRefused if status is LayerStatus.REFUSED else ReferenceMissing
    return (GuestDataError if depth == 0 else kind)(f"{where} cannot be read. {reason}")
