"""The dashboard: everything about one image on one screen."""

from __future__ import annotations

import os
from collections.abc import Callable

from textual import on

from qcow.storage.gate import Gate
from qcow.text import safe

from ...views.states import StateChoice, state_choices, state_words
from ...views.summary import places
from ...views.work import CHAIN, DEPENDENTS, compare
from ..panes.base import Pane
from .question import Answer, QuestionScreen
from .repairing import RepairingScreen


class Dashboard(RepairingScreen):
    """Header, allocation map, refcounts, snapshots, backing chain and findings of one image."""

    def action_escape(self) -> None:
        """Leave what was opened last, then stop what is running; never leave the app."""
        pane = self.focused_pane
        if pane is not None and pane.escape():
            return
        if self.unzoom() or self.end_difference():
            return
        self.stop_jobs()

    def action_copy(self) -> None:
        """Put the addresses of the selection on the clipboard."""
        text = " · ".join(
            f"{one.label} {one.value}".strip()
            for one in places(self.session, self.session.selection)
        )
        self.app.copy_to_clipboard(text)
        self.notify(text, title="Copied, if your terminal allows it", markup=False)

    def action_open_another(self) -> None:
        """Leave this image for the list of images."""
        self.qcow_app.show_picker(os.path.dirname(os.path.abspath(self.session.path)))

    # ---- comparing states

    def action_compare(self) -> None:
        """Ask for two states and draw where they differ."""
        pane = self.focused_pane
        one, other = (None if pane is None else pane.states_to_compare) or ("", "")
        choices = state_choices(self.session)
        self._ask_state(
            "Compare which state?", choices, one, lambda picked: self._ask_other(picked, other)
        )

    def _ask_other(self, one: str, proposed: str) -> None:
        others = tuple(choice for choice in state_choices(self.session) if choice.key != one)
        name = state_words(self.session, one)
        self._ask_state(
            f"{name}: compare with?", others, proposed, lambda other: self._compare(one, other)
        )

    def _ask_state(
        self,
        title: str,
        choices: tuple[StateChoice, ...],
        proposed: str,
        then: Callable[[str], None],
    ) -> None:
        def answered(key: str | None) -> None:
            if key is not None:
                then(key)

        answers = [Answer(*choice) for choice in choices]
        first = next((at for at, choice in enumerate(choices) if choice.key == proposed), 0)
        self.app.push_screen(QuestionScreen(title, "", answers, first), answered)

    @on(Pane.Compare)
    def _pane_compares(self, event: Pane.Compare) -> None:
        event.stop()
        self._compare(event.one, event.other)

    def _compare(self, one: str, other: str) -> None:
        self.runner.run_next(compare(one, other))
        self.run_worker(self.show_pane("map"))

    # ---- following references

    def action_follow(self) -> None:
        """Ask whether the files this image refers to may be opened."""
        image = self.session.qcow2
        if image is None:
            return
        folder = os.path.dirname(os.path.abspath(self.session.path))
        named = [
            safe(name, 70)
            for name in (image.backing.name if image.backing else None, image.data_file)
            if name is not None
        ]
        text = (
            "This image says that a part of its disk is in another file:\n\n"
            + "\n".join(f"    {name}" for name in named)
            + "\n\nWhoever made the image chose that name. Nothing was opened so far; opening is "
            "for reading only."
        )
        answers = [
            Answer("no", "Do not open it"),
            Answer("once", "Open it now", "and the files it refers to in turn, until you leave"),
            Answer(
                "always",
                "Open it now, and always inside this folder",
                f"for images in {safe(folder, 60)}, only files inside that folder",
            ),
        ]

        def answered(key: str | None) -> None:
            if key == "once":
                self.session.gate = Gate.follow()
            elif key == "always":
                self.qcow_app.state.trust(folder)
                self.session.gate = Gate.trusting([folder])
            if key in ("once", "always"):
                self.runner.run_next(CHAIN)

        self.app.push_screen(QuestionScreen("Follow the backing file", text, answers), answered)

    async def action_search_dependents(self) -> None:
        """Look which images in this folder build on this one."""
        self.runner.run_next(DEPENDENTS)
