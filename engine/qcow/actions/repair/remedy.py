"""What can be done about a damage: remedies, each with options that say what they keep and lose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...findings import Finding, GuestRange
from ...record import record
from ...text import safe

if TYPE_CHECKING:
    from ...edit.repairing import Repair


@record
class Option:
    """One way to treat a damage.  Texts are short sentences, safe to show.

    ``key`` is what a user writes (``--choice ID=KEY``).  ``loses`` is "" when nothing is lost.
    ``certain``: the evidence leaves no doubt that it is right.  ``changes``: guest bytes that may
    read differently afterwards than an undamaged image would have shown, or than this one shows
    now; everything outside of them stays as it is.  ``moves``: guest data goes elsewhere in the
    file.
    """

    key: str
    title: str
    keeps: str
    loses: str
    writes: str
    certain: bool = True
    changes: tuple[GuestRange, ...] = ()
    evidence: tuple[str, ...] = ()
    moves: bool = False

    @property
    def lossless(self) -> bool:
        return not self.loses

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "title": self.title,
            "keeps": self.keeps,
            "loses": self.loses or None,
            "writes": self.writes,
            "certain": self.certain,
            "changes": [
                {"start": r.start, "length": r.length, "state": safe(r.state)} for r in self.changes
            ],
            "evidence": list(self.evidence),
        }


class Remedy(ABC):
    """A damage with its options; :meth:`apply` makes one of them part of a repair transaction.

    ``id`` is stable for the same damage of the same image, so that it can be named on a command
    line.  ``default`` is the key of the option taken without a choice: one that loses nothing, or
    that is certain where a mapping has to be given up anyway; None when a person must choose.
    ``order``: remedies with a lower number are applied first.
    """

    id: str
    finding: Finding
    options: tuple[Option, ...]
    default: str | None = None
    order: int = 50
    #: Keys besides ``id`` that a user may answer (``--choice KEY=VALUE``).
    questions: tuple[str, ...] = ()
    #: Ids of other remedies for the same damage: what one of them treats is not left open.
    instead_of: tuple[str, ...] = ()

    @abstractmethod
    def apply(self, tx: Repair, option: Option) -> None:
        """Edit ``tx``.  Counting references and COPIED is not a remedy's business."""

    def option(self, key: str) -> Option:
        """The option called ``key``.  Raises UsageError, naming those there are."""
        for found in self.options:
            if found.key == key:
                return found
        known = ", ".join(option.key for option in self.options)
        raise UsageError(f'"{safe(key)}" is no choice for {self.id}; there are: {known}.')

    def chosen(self, choices: Mapping[str, str]) -> Option | None:
        """The option to take: the user's, else the default; None when it is left as it is."""
        key = choices.get(self.id, self.default)
        if key is None or key == LEAVE:
            return None
        return self.option(key)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "code": self.finding.code,
            "what": self.finding.what,
            "default": self.default,
            "options": [option.to_json() for option in self.options],
        }


#: The choice of doing nothing about a damage.
LEAVE = "leave"
