"""A few things to fill in, with what they mean said while one types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from textual import events, on
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from .panel import PanelScreen


class TextField(NamedTuple):
    """A line to type in.  ``label`` and ``placeholder`` are safe to show."""

    key: str
    label: str
    value: str = ""
    placeholder: str = ""


class ChoiceField(NamedTuple):
    """One of several; ``answers`` are (value, text), the first is proposed.  Safe to show."""

    key: str
    label: str
    answers: tuple[tuple[str, str], ...]


class Meaning(NamedTuple):
    """What the values mean, or why they mean nothing.  Safe to show."""

    text: str
    wrong: bool = False


Explain = Callable[[Mapping[str, str]], Meaning]


class FormScreen(PanelScreen[Mapping[str, str] | None]):
    """The result are the values by key (raw text), None when the user left."""

    HINT = "enter go on · tab next field · esc leave"
    DEFAULT_CSS = """
    FormScreen > .panel { width: 80; }
    FormScreen Input { background: $boost; margin: 0 0 1 0; }
    FormScreen OptionList { height: auto; max-height: 6; padding: 0; margin: 0 0 1 0; }
    FormScreen OptionList { background: $surface; }
    FormScreen .form-label { width: 1fr; height: auto; color: $text-muted; }
    FormScreen #meaning { width: 1fr; height: auto; min-height: 1; }
    FormScreen #meaning.-wrong { color: $text-warning; }
    """

    def __init__(
        self,
        title: str,
        text: str,
        fields: Sequence[TextField | ChoiceField],
        explain: Explain = lambda _values: Meaning(""),
    ) -> None:
        super().__init__()
        self._heading = title
        self._intro = text
        self._fields = fields
        self._explain = explain

    def title_text(self) -> str:
        return self._heading

    def contents(self) -> list[Widget]:
        found: list[Widget] = [self.paragraph(self._intro)] if self._intro else []
        for field in self._fields:
            found.append(Static(Content(field.label), classes="form-label", markup=False))
            if isinstance(field, TextField):
                line = Input(field.value, field.placeholder, compact=True, id=field.key)
                found.append(line)
            else:
                options = [Option(Content(text), id=value) for value, text in field.answers]
                found.append(OptionList(*options, markup=False, compact=True, id=field.key))
        found.append(Static(id="meaning", markup=False))
        return found

    def on_mount(self) -> None:
        for field in self._fields:
            if isinstance(field, ChoiceField):
                self.query_one(f"#{field.key}", OptionList).highlighted = 0
        first = self._fields[0]
        self.query_one(f"#{first.key}").focus()
        self._say()

    @property
    def values(self) -> Mapping[str, str]:
        """What is filled in now."""
        found = {}
        for field in self._fields:
            if isinstance(field, TextField):
                found[field.key] = self.query_one(f"#{field.key}", Input).value
            else:
                at = self.query_one(f"#{field.key}", OptionList).highlighted or 0
                found[field.key] = field.answers[at][0]
        return found

    @on(Input.Changed)
    @on(OptionList.OptionHighlighted)
    def _say(self) -> Meaning:
        said = self._explain(self.values)
        label = self.query_one("#meaning", Static)
        label.update(Content(said.text))
        label.set_class(said.wrong, "-wrong")
        return said

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _submitted(self) -> None:
        if self._say().wrong:
            self.app.bell()
        else:
            self.dismiss(self.values)

    def on_key(self, event: events.Key) -> None:
        if event.key in ("up", "down") and isinstance(self.focused, Input):
            event.stop()
            if event.key == "up":
                self.focus_previous()
            else:
                self.focus_next()

    def action_scroll(self, lines: int) -> None:
        choice = self.focused
        if isinstance(choice, OptionList):
            if lines > 0:
                choice.action_cursor_down()
            else:
                choice.action_cursor_up()
