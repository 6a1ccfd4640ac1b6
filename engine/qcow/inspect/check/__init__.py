"""The checker: an independent count of everything an image refers to, compared with its refcounts.

It reads the image's own file and nothing else, changes nothing, and goes on where a table is
damaged.  numpy is loaded when a check runs, not when this module is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .result import CheckResult

if TYPE_CHECKING:
    from ...image.image import Image
    from ...jobs import CancelToken, ProgressCallback

__all__ = ["CheckResult", "check"]


def check(
    image: Image,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    decode: bool = True,
) -> CheckResult:
    """Check all metadata and, with ``decode``, unpack every compressed cluster.

    Damage is no error: it is in the result.  Raises Cancelled.
    """
    from .run import run

    return run(image, progress=progress, cancel=cancel, decode=decode)
