"""Carrying out planned changes: the last question, and then how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual import on
from textual.content import Content
from textual.message import Message

from qcow.jobs import CancelToken, Progress, ProgressCallback
from qcow.text import safe

from ...views.changes.applying import Report
from ...views.changes.confirming import Strength, strength, word
from ...views.changes.plan_words import LONGEST_COMMAND, queue_words
from ...views.changes.staging import Staged
from ...views.tones import Tone
from ...views.units import duration
from ...views.work import progress_text
from ..messages import TaskEnded, TaskMoved
from ..panes.toned import content
from ..task import Task
from .change_panel import ChangePanel, Choice

#: Carries the changes out: told the number of each that begins.
Work = Callable[[Callable[[int], None], ProgressCallback, CancelToken], Report]

_BAR = 40
_FULL, _EMPTY = "━", "─"
_WAITING, _RUNNING, _DONE = "·", "▸", "✓"
_SAFELY = "The file is a complete image at every moment: one write of 512 bytes switches it over."
_STAY = "A change is being written, so this cannot be left now. c cancels it at a safe point."


class ApplyScreen(ChangePanel[Report | None]):
    """The result is None when the user did not go ahead.  It closes itself when all is done."""

    @dataclass
    class Begins(Message):
        """The change with this number begins."""

        number: int

    def __init__(self, plans: Sequence[Staged], work: Work, *, reviewed: bool = False) -> None:
        """``reviewed``: the only plan was on the screen just before, with its consequences."""
        super().__init__()
        self._plans = [staged.plan for staged in plans]
        self._work = work
        self._reviewed = reviewed
        self._at_work: Task[Report] | None = None
        self._number = 0
        self._progress: Progress | None = None
        self._elapsed = self._in_phase = 0.0
        self._then: Callable[[], None] | None = None

    def title_text(self) -> str:
        return "Apply"

    def on_mount(self) -> None:
        asked = strength(self._plans)
        if asked is Strength.ENTER and self._reviewed:
            self._go()
        else:
            self._ask(asked)

    # ---- the question

    def _ask(self, asked: Strength) -> None:
        rows: list[tuple[str, str | tuple[str, Tone]]] = []
        for number, plan in enumerate(self._plans, 1):
            rows.append((f"{number}", (plan.outcome.summary, Tone.STRONG)))
            rows += [(" ", (text, Tone.WARNING)) for text in plan.outcome.warnings]
            if plan.outcome.loses:
                rows.append((" ", (f"Loses: {plan.outcome.loses}", Tone.WARNING)))
            if not plan.undoable:
                rows.append((" ", (f"No way back: {plan.outcome.no_undo}", Tone.BAD)))
            rows.append((" ", (safe(plan.command, LONGEST_COMMAND), Tone.MUTED)))
        total = content((queue_words(self._plans), Tone.STRONG))
        self.show_body(*self.columns(rows), Content(""), total)
        later = Choice("", "Not now", "nothing is written", self.action_leave)
        if asked is Strength.WORD:
            self.show_choices(hint="enter go ahead, when the word is right · esc not now")
            wanted = word(self._plans)
            self.say(f'Some of this cannot be undone. Type "{wanted}" to go ahead.')
            self.ask(lambda typed: self._word_typed(typed, wanted), f"type {wanted}, or esc")
        elif asked is Strength.KEY:
            self.say("Something is lost for good once the space is reclaimed. Until then: undo.")
            go = Choice("y", "Yes, apply", "undo takes it back", self._go)
            self.show_choices(later, go, hint="y apply · esc not now")
        else:
            go = Choice("", "Apply", "nothing is lost, and undo takes it back", self._go)
            self.show_choices(go, later, hint="enter choose · esc not now")

    def _word_typed(self, typed: str, wanted: str) -> None:
        if typed.strip().lower() == wanted:
            self._go()
        else:
            self.say(f'That is not the word. Type "{wanted}", or leave with esc.')

    # ---- at work

    def _go(self) -> None:
        def begin(number: int) -> None:
            if self.is_attached:
                self.post_message(self.Begins(number))

        self._at_work = Task(self, lambda progress, cancel: self._work(begin, progress, cancel))
        self.say("")
        self.show_choices(hint="c cancel at a safe point")
        self._show_work()
        self._at_work.start()

    @property
    def at_work(self) -> bool:
        return self._at_work is not None

    def _show_work(self) -> None:
        rows: list[tuple[str, str | tuple[str, Tone]]] = []
        for at, plan in enumerate(self._plans):
            here = at == self._number
            mark = _RUNNING if here else _DONE if at < self._number else _WAITING
            tone = Tone.STRONG if here else Tone.GOOD if at < self._number else Tone.MUTED
            rows.append((mark, (plan.outcome.summary, tone)))
            rows.append((" ", (safe(plan.command, LONGEST_COMMAND), Tone.MUTED)))
        progress = self._progress
        fraction = 0.0 if progress is None else progress.fraction
        full = round(fraction * _BAR)
        bar = content((_FULL * full, Tone.NOTE), (_EMPTY * (_BAR - full), Tone.MUTED))
        title = f"{self._number + 1} of {len(self._plans)}"
        said = f"{title}: taking the locks" if progress is None else ""
        if progress is not None:
            said = progress_text(title, progress, self._in_phase)
            said += f" · {duration(self._elapsed)} so far"
        safely = content((_SAFELY, Tone.MUTED))
        self.show_body(*self.columns(rows), Content(""), bar, Content(said), Content(""), safely)

    @on(Begins)
    def _begins(self, event: Begins) -> None:
        self._number = event.number
        self._progress = None
        self._show_work()

    @on(TaskMoved)
    def _moved(self, event: TaskMoved) -> None:
        if event.task is self._at_work:
            self._progress = event.progress
            self._elapsed, self._in_phase = event.elapsed, event.in_phase
            self._show_work()

    @on(TaskEnded)
    def _ended(self, event: TaskEnded) -> None:
        self._at_work = None
        report = event.result
        if event.error is not None:
            report = Report((), len(self._plans), event.error)
        self.dismiss(report)
        if self._then is not None:
            self._then()

    # ---- keys

    def key_c(self) -> None:
        """Stop where nothing is half done."""
        if self._at_work is not None and not self._at_work.cancelled:
            self._at_work.cancel()
            self.say("Cancelling: it stops at the next place where nothing is half done.")

    def cancel_then(self, then: Callable[[], None]) -> None:
        """Cancel, and call ``then`` once nothing is written any more."""
        self._then = then
        self.key_c()

    def why_stay(self) -> str:
        return _STAY if self.at_work else ""

    def action_leave(self) -> None:
        if self.at_work:
            self.say(_STAY)
        else:
            self.dismiss(None)
