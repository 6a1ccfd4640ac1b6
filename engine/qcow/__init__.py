"""qcow: an engine that looks into QEMU disk images.

``qcow.open(path)`` gives an image for any file, however damaged; everything else hangs off it.
Names resolve on first use, so that importing a part never pays for the whole.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .findings import Finding, Severity
    from .image.image import Image
    from .opening import open

_HOME = {
    "Finding": ".findings",
    "Image": ".image.image",
    "Severity": ".findings",
    "open": ".opening",
}
__all__ = ["Finding", "Image", "Severity", "open"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
