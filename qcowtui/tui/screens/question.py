"""A question with a few answers; the safe one is highlighted first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual import on
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from .panel import PanelScreen


class Answer(NamedTuple):
    """``key`` is the result; ``text`` what is picked, ``detail`` what it means.  Safe to show."""

    key: str
    text: str
    detail: str = ""
    dim: bool = False  # it cannot be done now


class QuestionScreen(PanelScreen[str | None]):
    """The result is the key of the answer picked, None when the user left."""

    HINT = "enter choose · esc leave"
    DEFAULT_CSS = """
    QuestionScreen OptionList {
        height: auto; max-height: 20; padding: 0; background: $surface;
    }
    """

    def __init__(
        self,
        title: str,
        text: str,
        answers: Sequence[Answer],
        first: int = 0,
        *,
        one_line: bool = False,
    ) -> None:
        """``one_line``: details stand behind their answers, not below."""
        super().__init__()
        self._between = "  " if one_line else "\n   "
        self._heading = title
        self._text = text
        self._answers = answers
        self._first = first

    def title_text(self) -> str:
        return self._heading

    def contents(self) -> list[Widget]:
        options = []
        for answer in self._answers:
            content = Content.styled(answer.text, "dim" if answer.dim else "bold")
            if answer.detail:
                content += Content.styled(f"{self._between}{answer.detail}", "dim")
            options.append(Option(content, id=None))
        choice = OptionList(*options, markup=False, compact=True)
        return [*([self.paragraph(self._text)] if self._text else []), choice]

    def on_mount(self) -> None:
        choice = self.query_one(OptionList)
        choice.highlighted = self._first
        choice.focus()

    def action_scroll(self, lines: int) -> None:
        choice = self.query_one(OptionList)
        if lines > 0:
            choice.action_cursor_down()
        else:
            choice.action_cursor_up()

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._answers[event.option_index].key)
