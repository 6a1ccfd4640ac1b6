"""Which format a file is, by its first bytes (QEMU's probe functions)."""

from __future__ import annotations

#: How many bytes a probe looks at.
PROBE_LENGTH = 512

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vpc"),
    (0, b"QED\0", "qed"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"Bochs Virtual HD Image", "bochs"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"# Disk DescriptorFile", "vmdk"),
)


def probe(head: bytes) -> str:
    """The name of the format of a file that starts with ``head``; "raw" when nothing matches.

    Everything with qcow2's magic is "qcow2" (or "qcow" for version 1), however damaged: such a
    file is never taken for raw silently.
    """
    if head[:4] == b"QFI\xfb":
        return "qcow" if head[4:8] == b"\0\0\0\1" else "qcow2"
    for at, magic, name in _MAGICS:
        if head[at : at + len(magic)] == magic:
            return name
    return "raw"
