"""The list of images: what is in a folder, and what was opened lately."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from qcow.errors import QcowError
from qcow.text import safe

from ...commands.command import Scope
from ...views.picker import Found, candidates, check_quickly, look_at
from ...views.tones import Tone
from ...views.units import plural
from ..bindings import bindings_for
from ..panes.toned import Rows
from ..widgets.key_bar import KeyBar
from ..widgets.progress_line import ProgressLine
from ..widgets.title_bar import TitleBar
from ..widgets.virtual_list import Column, VirtualList
from .base import CommandScreen
from .path import PathScreen

_COLUMNS = (
    Column("Image", 0),
    Column("Format", 8),
    Column("Virtual", 9, "right"),
    Column("On disk", 9, "right"),
    Column("State", 0),
)
_MARKS = {
    Tone.GOOD: ("●", "picker--good"),
    Tone.NOTE: ("▲", "picker--note"),
    Tone.WARNING: ("▲", "picker--warning"),
    Tone.BAD: ("✖", "picker--bad"),
}
_NO_MARK = ("·", "picker--muted")
#: Images told at a time by the thread that looks at them.
_BATCH = 16


@dataclass
class Looked(Message):
    """Some of the images were looked at; ``listing`` is the number of the list they belong to."""

    listing: int
    found: list[Found]
    recent: bool


@dataclass
class Checked(Message):
    """One image was checked as far as a moment allows."""

    listing: int
    found: Found


@dataclass
class LookingEnded(Message):
    """All were looked at, or the folder could not be listed (``problem`` is safe to show)."""

    listing: int
    problem: str


class PickerScreen(CommandScreen):
    """Opening an image puts its dashboard on top of this list."""

    SCOPE = Scope.PICKER
    BINDINGS = bindings_for(Scope.PICKER, Scope.PANE)
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(name for _, name in _MARKS.values()),
        _NO_MARK[1],
    }

    def __init__(self, folder: str | None = None) -> None:
        super().__init__()
        self._folder = folder or os.getcwd()
        self._listing = 0
        self._here: list[Found] = []
        self._recent: list[Found] = []

    def compose(self) -> ComposeResult:
        yield TitleBar(id="title")
        with Vertical(id="box"):
            yield VirtualList(_COLUMNS, Rows(self._count, self._row), empty="Looking …")
        yield ProgressLine(id="progress")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        self.query_one(VirtualList).focus()
        self.action_refresh_list()

    def on_screen_resume(self) -> None:
        """Back from an image: it may be among the recent ones now."""
        if self._listing:
            self.action_refresh_list()

    def help_texts(self) -> list[tuple[str, str]]:
        return [
            (
                "Images",
                "Disk images in this folder, then those opened lately. The state is what the "
                "header says, and a check of the metadata where that takes only a moment: ● "
                "nothing odd, ▲ something to know, ✖ damaged. Looking takes no lock, changes "
                "nothing and opens no file that an image refers to.",
            )
        ]

    # ---- the model of the list

    def _count(self) -> int:
        return len(self._here) + len(self._recent)

    def found_at(self, index: int) -> tuple[Found, bool]:
        """The image of a row, and whether it is one from elsewhere."""
        if index < len(self._here):
            return self._here[index], False
        return self._recent[index - len(self._here)], True

    def _row(self, index: int) -> Sequence[str | Text]:
        found, recent = self.found_at(index)
        name = Text(found.name)
        if recent:
            name.append(f"  {_folder_of(found.path)}", self._style(_NO_MARK[1]))
        mark, style = _MARKS.get(found.tone, _NO_MARK)
        health = Text.assemble((f"{mark} ", self._style(style)), found.health)
        return name, found.format, found.virtual_size, found.disk_size, health

    def _style(self, name: str) -> Style:
        found = self.get_component_rich_style(name)
        return Style(color=found.color, bold=found.bold)

    # ---- looking

    def action_refresh_list(self) -> None:
        """List the folder anew."""
        self._listing += 1
        self._here, self._recent = [], []
        listing = self._listing
        self.query_one(TitleBar).show("qcowtui", (safe(self._folder, 80),))
        self.query_one(ProgressLine).show("Looking for images …")
        self.query_one(VirtualList).data_changed()
        recent = [path for path in self.qcow_app.state.recent if not self._is_here(path)]
        self.run_worker(
            lambda: self._look(listing, recent),
            group="picker",
            thread=True,
            exclusive=True,
            exit_on_error=False,
        )

    def _is_here(self, path: str) -> bool:
        return os.path.dirname(path) == os.path.abspath(self._folder)

    def _look(self, listing: int, recent: list[str]) -> None:
        """In a thread: look at every candidate."""
        problem = ""
        images: list[Found] = []
        try:
            here = candidates(self._folder)
        except QcowError as error:
            here, problem = [], str(error)
        for paths, is_recent in ((here, False), (recent, True)):
            for at in range(0, len(paths), _BATCH):
                if listing != self._listing:
                    return
                looked = [look_at(path, recent=is_recent) for path in paths[at : at + _BATCH]]
                found = [one for one in looked if one is not None]
                if found:
                    self.post_message(Looked(listing, found, is_recent))
                images += [one for one in found if one.format.startswith("qcow2")]
        for one in images:
            if listing != self._listing:
                return
            self.post_message(Checked(listing, check_quickly(one)))
        self.post_message(LookingEnded(listing, problem))

    @on(Looked)
    def _looked(self, event: Looked) -> None:
        if event.listing == self._listing:
            (self._recent if event.recent else self._here).extend(event.found)
            self.query_one(VirtualList).data_changed()

    @on(Checked)
    def _checked(self, event: Checked) -> None:
        if event.listing == self._listing:
            for images in (self._here, self._recent):
                images[:] = [event.found if one.path == event.found.path else one for one in images]
            self.query_one(VirtualList).data_changed()

    @on(LookingEnded)
    def _ended(self, event: LookingEnded) -> None:
        if event.listing != self._listing:
            return
        text = f"{plural(len(self._here), 'image')} in this folder"
        if self._recent:
            text += f", {plural(len(self._recent), 'recent one')} elsewhere"
        self.query_one(ProgressLine).show(event.problem or text)
        self.query_one(VirtualList).set_empty(
            "No disk image in this folder. g opens another path; `qcowtui demo` makes samples."
        )

    # ---- commands

    def action_open(self) -> None:
        """Open the highlighted image."""
        index = self.query_one(VirtualList).index
        if index is not None:
            self.qcow_app.open_image(self.found_at(index)[0].path)

    def action_path(self) -> None:
        """Ask for a path."""

        def answered(path: str | None) -> None:
            if path is None:
                return
            if os.path.isdir(path):
                self._folder = os.path.abspath(path)
                self.action_refresh_list()
            else:
                self.qcow_app.open_image(path)

        self.app.push_screen(PathScreen(self._folder), answered)

    @on(VirtualList.Activated)
    def _activated(self, event: VirtualList.Activated) -> None:
        event.stop()
        self.action_open()

    def action_move(self, right: int, down: int) -> None:
        self.query_one(VirtualList).action_move(right, down)

    def action_page(self, pages: int) -> None:
        self.query_one(VirtualList).action_page(pages)

    def action_home(self) -> None:
        self.query_one(VirtualList).action_home()

    def action_end(self) -> None:
        self.query_one(VirtualList).action_end()


def _folder_of(path: str) -> str:
    """The folder of a path, with ``~`` for the home folder, safe to show."""
    folder, home = os.path.dirname(path), os.path.expanduser("~")
    if folder == home or folder.startswith(home + os.sep):
        folder = "~" + folder[len(home) :]
    return safe(folder, 50)
