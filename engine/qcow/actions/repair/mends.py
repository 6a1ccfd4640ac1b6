"""Remedies for what keeps an image from being opened as it should: its header and small tables.

They change how the image is *seen* (:class:`~qcow.edit.mending.Mending`); everything else is looked
for in the image as it is seen then, and one switch brings it all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...edit.mending import Mending
from ...findings import Finding, FindingKind
from ...image.image import Image
from ...jobs import CancelToken
from .remedy import Option, Remedy

if TYPE_CHECKING:
    from ...edit.repairing import Repair


class Mend(Remedy):
    """A remedy that is made before anything else is looked at."""

    order = 10

    @abstractmethod
    def mend(self, mending: Mending, option: Option) -> Mending:
        """How the image is to be seen with ``option``."""

    def apply(self, tx: Repair, option: Option) -> None:
        """Nothing more, in most cases: the header that was seen becomes the one in the file."""


class HeaderMend(Mend):
    """One that puts other bytes into the header cluster, prepared for each option by its key."""

    def __init__(
        self,
        id_: str,
        finding: Finding,
        ways: Mapping[Option, bytes],
        default: str | None,
    ) -> None:
        self.id = id_
        self.finding = finding
        self.options = tuple(ways)
        self.default = default
        self._headers = {option.key: header for option, header in ways.items()}

    def mend(self, mending: Mending, option: Option) -> Mending:
        return Mending(self._headers[option.key], mending.tables)


@dataclass
class Sight:
    """The image as it is seen while it is mended.  ``answers``: what the user chose."""

    image: Image
    mending: Mending
    answers: Mapping[str, str]
    cancel: CancelToken | None = None
    mends: list[Mend] = field(default_factory=list)
    changed: bool = False

    @property
    def header(self) -> bytes:
        """The header cluster as it is seen (what the file lacks of it as zeros)."""
        bits = self.image.header.cluster_bits
        size = 1 << bits if 9 <= bits <= 21 else len(self.mending.header)
        return self.image.storage.read(0, size).ljust(size, b"\0")

    def problem(self, *kinds: FindingKind) -> Finding | None:
        """The first problem of one of ``kinds`` that opening the image found."""
        return next((p for p in self.image.problems if p.kind in kinds), None)

    def tried(self, header: bytes) -> Image | None:
        """The image with another header cluster; None when that is no qcow2 image."""
        from ...errors import FormatError

        try:
            return Mending(header, self.mending.tables).seen(self.image.storage)
        except FormatError:
            return None


#: Looks at the image as it is seen and offers mends, those first that others depend on.
MendFinder = Callable[[Sight], list[Mend]]


def menders() -> tuple[MendFinder, ...]:
    """Everything that knows how the image could be seen better, in this order."""
    from .bitmaps import find_directory
    from .extended_l2 import find_extended_l2
    from .extensions import find_extensions
    from .header import find_header
    from .luks import find_luks
    from .snapshots import find_snapshots

    return (
        find_extended_l2,  # what tables map, and so the size, depends on it
        find_header,
        find_extensions,
        find_luks,
        find_snapshots,
        find_directory,
    )


def see(
    image: Image,
    answers: Mapping[str, str],
    only: frozenset[str] | None,
    cancel: CancelToken | None,
) -> Sight:
    """Mend ``image`` as far as defaults and ``answers`` say, one thing after the other."""
    size = image.header.cluster_size if 9 <= image.header.cluster_bits <= 21 else 512
    header = image.storage.read(0, size).ljust(size, b"\0")
    sight = Sight(image, Mending(header), answers, cancel)
    known: set[str] = set()
    while _step(sight, known, only):
        sight.changed = True
    return sight


def _step(sight: Sight, known: set[str], only: frozenset[str] | None) -> bool:
    """Make one more mend; False when there is none to make."""
    for find in menders():
        for mend in find(sight):
            if sight.cancel is not None:
                sight.cancel.check()
            if mend.id in known:
                continue
            known.add(mend.id)
            sight.mends.append(mend)
            wanted = only is None or mend.id in only or mend.id in sight.answers
            option = mend.chosen(sight.answers) if wanted else None
            if option is None:
                continue
            mending = mend.mend(sight.mending, option)
            if mending != sight.mending:
                sight.mending = mending
                sight.image = mending.seen(sight.image.storage)
            return True
    return False
