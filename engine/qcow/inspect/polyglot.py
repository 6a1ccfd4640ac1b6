"""A file that is two things: a qcow2 image whose header cluster also passes for something else.

Two programs that disagree on what a file is can be played against each other: one checks it, the
other uses it.  Only the header cluster is looked at, where a qcow2 image has no guest data.
"""

from __future__ import annotations

import struct

from ..image.image import Image

_VDI = (0x40, b"\x7f\x10\xda\xbe")
_ISO9660 = tuple(0x8001 + 0x800 * number for number in range(4))
_GPT = (512, b"EFI PART")
_BOOT_SIGNATURE = 510
_PARTITIONS = 446
_PARTITION = struct.Struct("<B3sB3sII")


def other_format(image: Image) -> str | None:
    """A sentence about the other format the header cluster passes for, or None."""
    if image.geometry is None:
        return None
    head = image.storage.read(0, image.geometry.cluster_size)
    marks = {
        "a VDI image": head[_VDI[0] :].startswith(_VDI[1]),
        "an ISO 9660 file system": any(head[at : at + 5] == b"CD001" for at in _ISO9660),
        "a disk with a GUID partition table": head[_GPT[0] :].startswith(_GPT[1]),
        "a disk with a partition table": _has_partitions(head),
    }
    for name, found in marks.items():
        if found:
            return f"The file also passes for {name}, so programs may disagree on what it is."
    return None


def _has_partitions(sector: bytes) -> bool:
    if sector[_BOOT_SIGNATURE : _BOOT_SIGNATURE + 2] != b"\x55\xaa":
        return False
    entries = (_PARTITION.unpack_from(sector, _PARTITIONS + 16 * number) for number in range(4))
    used = [(status, first, count) for status, _, kind, _, first, count in entries if kind]
    return bool(used) and all(
        status in (0, 0x80) and first and count for status, first, count in used
    )
