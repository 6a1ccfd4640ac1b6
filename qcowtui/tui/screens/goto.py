"""The prompt for an address."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from qcow.errors import QcowError

from ...views.address import EXAMPLES, parse_address
from ...views.selection import Selection
from ...views.session import Session
from ...views.summary import places


class GotoScreen(ModalScreen[Selection | None]):
    """Says while one types what the address means, or why it means nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave", show=False)]
    DEFAULT_CSS = """
    GotoScreen { align: center top; background: $background 40%; }
    GotoScreen > Vertical {
        width: 76; max-width: 100%; height: auto; margin: 3 2 0 2; padding: 0 1;
        background: $surface; border: round $accent; border-title-color: $text-accent;
    }
    GotoScreen Input { background: $boost; }
    GotoScreen Label { width: 1fr; color: $text-muted; }
    GotoScreen #meaning { color: $foreground; margin: 1 0 0 0; }
    GotoScreen #meaning.-wrong { color: $text-warning; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Go to"
            box.border_subtitle = "enter go · esc leave"
            place = f"an address in the {self._session.order.value}"
            yield Input(placeholder=place, compact=True)
            yield Label(id="meaning", markup=False)
            yield Label(EXAMPLES, markup=False)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        label = self.query_one("#meaning", Label)
        if not event.value.strip():
            label.update("")
            return
        try:
            place = self._session.glance(parse_address(event.value, self._session))
        except QcowError as error:
            label.update(str(error))
            label.set_class(True, "-wrong")
            return
        label.set_class(False, "-wrong")
        found = places(self._session, place)
        label.update("→ " + " · ".join(f"{one.label} {one.value}".strip() for one in found))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        try:
            self.dismiss(parse_address(event.value, self._session))
        except QcowError:
            self.app.bell()

    def action_leave(self) -> None:
        self.dismiss(None)
