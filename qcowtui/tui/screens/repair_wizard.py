"""The repair wizard: what is wrong, what can be done about it, and which of it is wanted."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import NamedTuple

from textual import events, on
from textual.content import Content
from textual.widgets import OptionList

from qcow.findings import GuestRange

from ...views.repair_view import Diagnosed, FindingView, OptionView
from ...views.tones import Tone
from ...views.units import plural
from ..panes.toned import content
from .change_panel import ChangePanel, Choice

#: The answer of doing nothing about a finding, as the engine has it.
_LEAVE = "leave"
_BESIDES = 4
#: Cells of the key before an answer.
_KEY = 6


class Decided(NamedTuple):
    """What the user wants.  ``choices``: what differs from the defaults.

    ``show``: look at this place first.  ``again``: what is found depends on a choice just made.
    With neither, plan it.
    """

    choices: Mapping[str, str]
    show: GuestRange | None = None
    again: bool = False


class RepairWizard(ChangePanel[Decided | None]):
    """A list of findings, and a page for each; the result is None when the user left it at that."""

    HINT = "esc leave"
    DEFAULT_CSS = """
    RepairWizard #foot OptionList { max-height: 12; scrollbar-size-vertical: 1; }
    """

    def __init__(self, found: Diagnosed, choices: Mapping[str, str]) -> None:
        super().__init__()
        self._found = found
        self._choices_made = dict(choices)
        self._at: int | None = None  # the finding whose page is shown
        self._listed: tuple[str | None, ...] = ()  # keys of the options on that page
        self._detailed = False

    def title_text(self) -> str:
        return "Repair"

    def on_mount(self) -> None:
        self._show_all()

    # ---- all findings

    def _show_all(self, first: int = 0) -> None:
        self._at = None
        found = self._found
        lines = [content((found.summary, Tone.STRONG))]
        if found.findings:
            lines.append(
                content(
                    (
                        "Nothing is written here: you choose, then you see the plan. Once it is "
                        "made, one key takes it all back.",
                        Tone.MUTED,
                    )
                )
            )
        rows: list[tuple[str, str | tuple[str, Tone]]] = [
            (" " if number else "also", text)
            for number, text in enumerate(found.besides[:_BESIDES])
        ]
        if len(found.besides) > _BESIDES:
            rows.append((" ", f"and {len(found.besides) - _BESIDES:,} more"))
        if rows:
            lines += [Content(""), *self.columns(rows)]
            if found.findings:
                note = "What else was found is cleared up where the rest is its cause."
                lines.append(content((note, Tone.MUTED)))
        self.show_body(*lines)
        leave = Choice("", "Leave", "nothing is changed", self.action_leave)
        pages = [
            Choice(
                str(number + 1) if number < 9 else "",
                self._hanging(finding.what),
                self._hanging(f"→ {self._decision(finding)}", below=True),
                lambda number=number: self._show(number),  # type: ignore[misc]
            )
            for number, finding in enumerate(found.findings)
        ]
        go = [Choice("p", "Show the plan", self._extent(), self._plan)] if self._treated else []
        self.show_choices(
            *go, *pages, leave, hint="enter choose · esc leave", first=first + len(go) * bool(first)
        )

    @property
    def _treated(self) -> int:
        return sum(self._chosen(finding) is not None for finding in self._found.findings)

    def _chosen(self, finding: FindingView) -> OptionView | None:
        return finding.option(self._choices_made.get(finding.id, finding.default))

    def _decision(self, finding: FindingView) -> str:
        chosen = self._chosen(finding)
        if chosen is not None:
            return f"{chosen.title} ({chosen.loss})"
        if finding.id in self._choices_made:
            return "left as it is"
        return "waits for your choice; nothing is done about it until then"

    def _extent(self) -> str:
        treated = [one for one in map(self._chosen, self._found.findings) if one is not None]
        total = len(self._found.findings)
        losing = sum(one.loss.startswith("loses something") for one in treated)
        what = f"treats {len(treated)} of {plural(total, 'finding')}"
        return f"{what}; {losing} with a loss" if losing else f"{what} and loses nothing"

    def _plan(self) -> None:
        self.dismiss(Decided(self._choices_made))

    def _hanging(self, text: str, *, below: bool = False) -> str:
        """Lines of an answer behind its key; ``below``: what stands under its first text."""
        lead = "\n" + " " * _KEY
        lines = textwrap.wrap(text, max(20, self.inside - _KEY), break_long_words=False)
        return (lead if below else "") + lead.join(lines)

    # ---- one finding

    def _show(self, number: int) -> None:
        self._at = number
        finding = self._found.findings[number]
        chosen = self._chosen(finding)
        self._listed = (*(option.key for option in finding.options), None)
        choices = [
            Choice(
                str(at + 1) if at < 9 else "",
                self._hanging(option.title),
                self._hanging(option.loss, below=True),
                lambda option=option: self._choose(finding, option.key),  # type: ignore[misc]
            )
            for at, option in enumerate(finding.options)
        ]
        leave = Choice("0", "Leave it as it is", "", lambda: self._choose(finding, _LEAVE))
        show = "g show it on the map · " if finding.places else ""
        self.show_choices(
            *choices,
            leave,
            hint=f"enter choose · {show}d details · esc back",
            first=self._listed.index(None if chosen is None else chosen.key),
        )
        self._describe()

    def _describe(self) -> None:
        """The finding, and the option under the cursor as a table."""
        if self._at is None:
            return
        finding = self._found.findings[self._at]
        total = len(self._found.findings)
        lines = [
            content((f"Finding {self._at + 1} of {total}", Tone.MUTED)),
            content((finding.what, Tone.STRONG)),
            *self.columns([(row.label, (row.text, row.tone)) for row in finding.about]),
        ]
        if self._detailed:
            lines += self.columns([(row.label, (row.text, row.tone)) for row in finding.details])
        at = self.query_one(OptionList).highlighted
        option = finding.option(self._listed[at] if at is not None else None)
        lines.append(Content(""))
        if option is None:
            lines.append(
                content(("Left as it is: it can be treated later, as long as nothing writes "
                         "to the image meanwhile.", Tone.MUTED))
            )  # fmt: skip
        else:
            lines.append(content((option.title, Tone.NOTE)))
            lines += self.columns([(row.label, (row.text, row.tone)) for row in option.rows])
        self.show_body(*lines)

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._describe()

    def _choose(self, finding: FindingView, key: str) -> None:
        before = self._chosen(finding)
        if key == finding.default:
            self._choices_made.pop(finding.id, None)
        else:
            self._choices_made[finding.id] = key
        if finding.first and before != self._chosen(finding):
            self.dismiss(Decided(self._choices_made, again=True))
            return
        waiting = [
            number
            for number, one in enumerate(self._found.findings)
            if self._chosen(one) is None and one.id not in self._choices_made
        ]
        following = next((n for n in waiting if self._at is not None and n > self._at), None)
        if following is None:
            self._show_all()
        else:
            self._show(following)

    # ---- keys

    def on_key(self, event: events.Key) -> None:
        if self._at is None or event.key not in ("g", "d"):
            return
        event.stop()
        if event.key == "d":
            self._detailed = not self._detailed
            self._describe()
        elif places := self._found.findings[self._at].places:
            self.dismiss(Decided(self._choices_made, show=places[0]))

    def action_leave(self) -> None:
        if self._at is None:
            self.dismiss(None)
        else:
            self._show_all(first=self._at)
