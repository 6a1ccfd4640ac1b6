"""Reading the bitmap directory, and what is wrong with its entries."""

from __future__ import annotations

from ..errors import StorageError
from ..findings import Finding
from ..layout import problems as P
from ..layout.bitmaps import BitmapDirectoryError, BitmapEntry, parse_bitmap_directory
from ..layout.constants import BITMAPS_VALID, MAX_BITMAP_DIRECTORY_BYTES, MAX_BITMAPS
from ..layout.extensions import BitmapsExtension
from ..layout.geometry import Geometry
from ..layout.header import Header
from ..record import record
from ..storage.base import Storage
from ..text import plural, safe


@record
class BitmapDirectory:
    """``place``: (offset, length) in bytes, None when impossible.  ``valid``: not stale."""

    bitmaps: tuple[BitmapEntry, ...]
    place: tuple[int, int] | None
    valid: bool
    problems: tuple[Finding, ...]


def read_bitmap_directory(
    storage: Storage, header: Header, geometry: Geometry, extension: BitmapsExtension
) -> BitmapDirectory:
    """Read the directory the bitmaps extension points at.

    A directory that is stale (its autoclear bit is gone) is listed where it can be, not judged.
    """
    valid = bool(header.autoclear_features & BITMAPS_VALID)
    bitmaps: tuple[BitmapEntry, ...] = ()
    place = None
    fault = _extension_fault(extension, geometry)
    if fault is None:
        place = (extension.directory_offset, extension.directory_size)
        try:
            data = storage.read(*place)
            if len(data) < extension.directory_size:
                fault = "The bitmap directory is cut off by the end of the file."
            else:
                bitmaps = parse_bitmap_directory(data, extension.nb_bitmaps)
        except BitmapDirectoryError as error:
            fault = str(error)
        except StorageError as error:
            fault = f"The bitmap directory cannot be read: {error}"
    if not valid:
        stale = f"No longer valid: {plural(extension.nb_bitmaps, 'bitmap')}."
        problems = [Finding(P.BITMAPS_STALE, stale, structure="bitmaps")]
    elif fault is not None:
        problems = [Finding(P.BITMAPS_INVALID, fault, structure="bitmaps")]
    else:
        problems = _judge(bitmaps, header, geometry)
    return BitmapDirectory(bitmaps, place, valid, tuple(problems))


def _extension_fault(extension: BitmapsExtension, geometry: Geometry) -> str | None:
    if geometry.version < 3:
        return "A version 2 image cannot hold bitmaps."
    if extension.reserved:
        return "The reserved field of the bitmaps extension is not zero."
    if extension.nb_bitmaps == 0:
        return "The bitmaps extension announces no bitmap."
    if extension.nb_bitmaps > MAX_BITMAPS:
        return f"The bitmaps extension announces {extension.nb_bitmaps} bitmaps."
    if extension.directory_offset % geometry.cluster_size or extension.directory_offset == 0:
        return (
            f"The bitmap directory offset {extension.directory_offset:#x} is not at the start "
            "of a cluster."
        )
    if not 0 < extension.directory_size <= MAX_BITMAP_DIRECTORY_BYTES:
        return f"The bitmap directory has an impossible size of {extension.directory_size} bytes."
    return None


def _judge(bitmaps: tuple[BitmapEntry, ...], header: Header, geometry: Geometry) -> list[Finding]:
    problems: list[Finding] = []
    for entry in bitmaps:
        fault = entry.fault(geometry.cluster_size, header.virtual_size)
        if fault is None and not entry.in_use:
            continue
        shown = f'Bitmap "{safe(entry.name, 60)}"'
        if fault is not None:
            kind, what = P.BITMAPS_INVALID, f"{shown} cannot be used: {fault}."
        else:
            kind = P.BITMAP_INCONSISTENT
            what = f"{shown} was not written back by the program that kept it."
        problems.append(Finding(kind, what, structure="bitmaps"))
    return problems
