"""What the panels about a change have in common: a body that scrolls, answers that stay in view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from ...views.tones import Tone
from ..panes.details import laid_out
from ..panes.toned import content
from .panel import PanelScreen

if TYPE_CHECKING:
    from ..app import QcowApp

Result = TypeVar("Result")

#: Of the screen's height, as the style sheet of panels has it.
_SHARE = 0.92
_BORDERS = 2


class Choice(NamedTuple):
    """One answer.  ``key`` is pressed for it, empty for none; texts are safe to show."""

    key: str
    text: str
    detail: str
    act: Callable[[], None]


class ChangePanel(PanelScreen[Result]):
    """Subclasses fill the body, the answers, and the line that says what is going on."""

    DEFAULT_CSS = """
    ChangePanel > .panel { width: 100; }
    ChangePanel #body { height: auto; }
    ChangePanel #body > Static { width: 1fr; height: auto; }
    ChangePanel #foot { height: auto; }
    ChangePanel #foot Static { width: 1fr; height: auto; }
    ChangePanel #said { color: $text-warning; }
    ChangePanel #foot OptionList {
        height: auto; padding: 0; background: $surface; margin: 1 0 0 0; display: none;
    }
    ChangePanel #foot OptionList.-any { display: block; }
    ChangePanel #foot Input { background: $boost; margin: 1 0 0 0; display: none; }
    ChangePanel #foot Input.-any { display: block; }
    ChangePanel #foot #said.-none { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._choices: tuple[Choice, ...] = ()
        self._on_input: Callable[[str], None] | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel") as box:
            box.border_title = content((self.title_text(), Tone.PLAIN))
            box.border_subtitle = self.HINT
            with VerticalScroll(id="body", can_focus=False):
                yield Static(id="text", markup=False)
            with Vertical(id="foot"):
                yield Static(id="said", classes="-none", markup=False)
                yield OptionList(markup=False, compact=True)
                yield Input(compact=True)

    @property
    def at_work(self) -> bool:
        """Whether a thread works for this panel."""
        return False

    @property
    def qcow_app(self) -> QcowApp:
        """The app, with its own type."""
        return cast("QcowApp", self.app)

    # ---- what subclasses say

    def show_body(self, *lines: Content) -> None:
        """Fill the part that scrolls."""
        self.query_one("#text", Static).update(Content("\n").join(lines))
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def show_choices(self, *choices: Choice, hint: str = "", first: int = 0) -> None:
        """The answers there are; the one with number ``first`` is highlighted."""
        self._choices = choices
        listing = self.query_one(OptionList)
        listing.clear_options()
        listing.add_options([Option(_prompt(choice), id=None) for choice in choices])
        listing.set_class(bool(choices), "-any")
        if choices:
            listing.highlighted = first
            listing.focus()
        self.hint(hint)
        self.ask(None)

    def ask(self, then: Callable[[str], None] | None, placeholder: str = "") -> None:
        """Show a line to type in; ``then`` gets what was typed.  None takes the line away."""
        self._on_input = then
        line = self.query_one("#foot Input", Input)
        line.set_class(then is not None, "-any")
        line.placeholder = placeholder
        if then is not None:
            line.value = ""
            line.focus()
        self._fit()

    def hint(self, text: str) -> None:
        """Which keys there are, in the border."""
        self.query_one(".panel", Vertical).border_subtitle = text or self.HINT

    def say(self, reason: str) -> None:
        said = self.query_one("#said", Static)
        said.set_class(not reason, "-none")
        said.update(Content(reason))
        self._fit()

    @property
    def inside(self) -> int:
        """Cells of a line of the body."""
        return max(20, min(100, self.app.size.width * 96 // 100) - 5)

    def columns(self, rows: Sequence[tuple[str, str | tuple[str, Tone]]]) -> list[Content]:
        """Labels and texts in two columns; without any label a text stands alone."""
        found: list[Content] = []
        for label, text in _aligned(rows):
            words, tone = (text, Tone.PLAIN) if isinstance(text, str) else text
            for line in laid_out(((label, words),), self.inside):
                found.append(line if tone is Tone.PLAIN else _toned(line, tone, len(label)))
        return found

    # ---- what the user does

    def on_key(self, event: events.Key) -> None:
        chosen = next((one for one in self._choices if one.key and one.key == event.key), None)
        if chosen is not None and self._on_input is None:
            event.stop()
            chosen.act()

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        self._choices[event.option_index].act()

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        if self._on_input is not None:
            self._on_input(event.value)

    def action_scroll(self, lines: int) -> None:
        body, listing = self.query_one(VerticalScroll), self.query_one(OptionList)
        if abs(lines) > 1 or not self._choices:
            body.scroll_relative(y=lines, animate=False)
        elif lines > 0:
            listing.action_cursor_down()
        else:
            listing.action_cursor_up()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        """Leave the answers their room: only the body gives way."""
        self.call_after_refresh(self._limit_body)

    def _limit_body(self) -> None:
        foot = self.query_one("#foot", Vertical).outer_size.height
        most = int(self.app.size.height * _SHARE) - _BORDERS - foot
        self.query_one(VerticalScroll).styles.max_height = max(1, most)


def _prompt(choice: Choice) -> Content:
    key = f"{choice.key:<6}" if choice.key else " " * 6
    prompt = Content.styled(key, "bold $text-accent") + Content.styled(choice.text, "bold")
    if choice.detail:
        prompt += Content.styled(f"  {choice.detail}", "dim")
    return prompt


def _aligned(
    rows: Sequence[tuple[str, str | tuple[str, Tone]]],
) -> list[tuple[str, str | tuple[str, Tone]]]:
    width = max((len(label) for label, _ in rows), default=0)
    return [(f"{label:<{width}}" if label else "", text) for label, text in rows]


def _toned(line: Content, tone: Tone, label: int) -> Content:
    plain = line.plain
    return content((plain[:label], Tone.MUTED), (plain[label:], tone))
