"""A file whose header is gone: a new one, made from what a scan of the file found.

The file is no qcow2 image until it is repaired, so it is opened for the repair with the header that
was chosen: :func:`mending_for` makes what ``plan``, ``Preview`` and ``apply`` take as ``mending``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...edit.mending import Mending
from ...errors import EditRefused, UsageError
from ...findings import Finding, Severity, kind
from ...image.image import Image
from ...inspect.lost import LostImage
from ...text import safe, size_and_bytes
from ...text import size as size_of
from .asked import parse_size
from .remedy import Option, Remedy

if TYPE_CHECKING:
    from ...edit.repairing import Repair

HEADER_LOST = kind(
    "QCOW-HEADER-LOST",
    Severity.ERROR,
    "header lost",
    "The file does not start with a qcow2 header: its first bytes were overwritten.",
    "Programs take the file for a raw disk, and its metadata for guest data.",
    "Let no program write to the file. The tables behind the header are scanned, and a header that "
    "fits them is proposed; undo brings the old bytes back.",
)

#: What only the lost header said, and a user may be asked for.
QUESTIONS = ("size", "header", "backing", "backing-format")


class LostHeader(Remedy):
    """The header with which the image is seen already becomes the one in the file."""

    id = "header-lost"
    default = "rebuild"
    order = 0
    questions = QUESTIONS

    def __init__(self, image: Image) -> None:
        header = image.header
        self.finding = Finding(
            HEADER_LOST, "The file does not start with a qcow2 header.", structure="header"
        )
        self.options = (
            Option(
                key="rebuild",
                title=f"Write a new header: version {header.version}, clusters of "
                f"{size_of(header.cluster_size)}, a disk of {size_and_bytes(header.size)}",
                keeps="Every table that is there, all guest data and every snapshot they map.",
                loses="The names of a backing file, of bitmaps and of feature bits, where the lost "
                "header had any.",
                writes="The first sector of the file.",
            ),
        )

    def apply(self, tx: Repair, option: Option) -> None:
        """Nothing: the switch brings the header that is seen."""


def header_lost(image: Image) -> Remedy:
    """The remedy for an image that is seen with a header made up from a scan."""
    return LostHeader(image)


def mending_for(lost: LostImage, answers: Mapping[str, str]) -> Mending:
    """The header that ``answers`` choose among the proposals of a scan.

    ``header``: the number of a proposal, 1 for the best, which is taken without an answer;
    ``size``: the disk's, needed where no snapshot recorded it; ``backing``, ``backing-format``.
    Raises EditRefused when nothing was found, UsageError.
    """
    if not lost.proposals:
        raise EditRefused(
            "No structures of a qcow2 image were found in the file from which a header could be "
            "made."
        )
    wanted = answers.get("header", "1")
    if not (wanted.isdigit() and 1 <= int(wanted) <= len(lost.proposals)):
        raise UsageError(
            f'"{safe(wanted, 40)}" is none of the {len(lost.proposals)} headers proposed.'
        )
    proposal = lost.proposals[int(wanted) - 1]
    size = answers.get("size")
    backing, format_ = answers.get("backing"), answers.get("backing-format")
    return Mending(
        proposal.first_bytes(
            None if size is None else parse_size(size, proposal.least, proposal.most),
            None if backing is None else backing.encode("utf-8", "surrogateescape"),
            None if format_ is None else format_.encode("utf-8", "surrogateescape"),
        )
    )
