"""From a damaged image to the remedies it allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ...edit.mending import Mending
from ...errors import UsageError
from ...image.image import Image
from ...inspect.check import CheckResult, check
from ...jobs import CancelToken, ProgressCallback
from ...text import safe
from .mends import see
from .remedy import Option, Remedy

if TYPE_CHECKING:
    from ...chain import Chain
    from ...inspect.triage import Triage
    from .lost_l1 import LostTable


@dataclass(frozen=True)
class Case:
    """The image to be treated, and what was found.  ``chain``: its files, where they are open."""

    image: Image
    checked: CheckResult
    chain: Chain | None = None
    #: What the user was asked for and answered, by its key (``size=2G`` for a lost header).
    answers: Mapping[str, str] = field(default_factory=dict)
    #: How the image is seen here, where that is not how it is in the file.
    mending: Mending | None = None
    cancel: CancelToken | None = None

    @cached_property
    def triage(self) -> Triage:
        """What the leaked clusters hold, looked at once.  Raises Cancelled."""
        from ...inspect.triage import triage

        return triage(self.image, disk=self.chain, cancel=self.cancel)

    @cached_property
    def lost_l1(self) -> list[LostTable]:
        """The leaked L1 tables and the states they may have been of, looked for once."""
        from .lost_l1 import search

        return search(self)


#: Looks at a case and offers remedies.  One for each kind of damage; see :func:`finders`.
Finder = Callable[[Case, CancelToken | None], list[Remedy]]


def finders() -> tuple[Finder, ...]:
    """Everything that knows a kind of damage, in the order in which it is shown."""
    from .bitmaps import find_bitmaps
    from .compressed import find_compressed
    from .entries import find_entries
    from .l1_entries import find_l1_entries
    from .leaks import find_leaks
    from .lost_l1 import find_lost_l1
    from .overlaps import find_overlaps
    from .reattach import find_orphans
    from .recount import find_recount
    from .shared_l2 import find_shared_tables
    from .truncation import find_truncation

    return (
        find_orphans,
        find_lost_l1,
        find_l1_entries,
        find_shared_tables,
        find_overlaps,
        find_entries,
        find_compressed,
        find_truncation,
        find_bitmaps,
        find_leaks,
        find_recount,
    )


def diagnose(
    image: Image,
    *,
    chain: Chain | None = None,
    answers: Mapping[str, str] | None = None,
    only: frozenset[str] | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> tuple[Case, tuple[Remedy, ...]]:
    """Check ``image`` and find what can be done; the remedies in the order they are applied.

    What keeps the image from being opened as it should is mended first, as ``answers`` and ``only``
    say; the rest is what is found then.  Raises Cancelled, UsageError for an answer that cannot be.
    """
    sight = see(image, answers or {}, only, cancel)
    checked = check(sight.image, progress=progress, cancel=cancel)
    mending = sight.mending if sight.changed else None
    case = Case(sight.image, checked, chain, answers or {}, mending, cancel)
    found: list[Remedy] = [*sight.mends]
    for finder in finders():
        found += finder(case, cancel)
    return case, tuple(sorted(found, key=lambda remedy: remedy.order))


def choose(
    remedies: tuple[Remedy, ...], choices: Mapping[str, str], only: frozenset[str] | None
) -> list[tuple[Remedy, Option]]:
    """What is to be applied.  ``only``: the ids of the remedies wanted; None for all.

    Raises UsageError for an id or a key that does not exist.
    """
    known = {key for remedy in remedies for key in (remedy.id, *remedy.questions)}
    for id_ in (*choices, *(only or ())):
        if id_ not in known:
            raise UsageError(f'There is no finding "{safe(id_)}"; `repair --plan` lists them.')
    chosen = []
    for remedy in remedies:
        if only is not None and remedy.id not in only and remedy.id not in choices:
            continue
        option = remedy.chosen(choices)
        if option is not None:
            chosen.append((remedy, option))
    return chosen
