"""Asking for changes of snapshots and of the guest disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from textual import on

from qcow.errors import QcowError
from qcow.image.image import Image
from qcow.jobs import CancelToken, ProgressCallback
from qcow.text import safe

from ...views.units import size, size_and_bytes
from ..panes.base import Pane
from .changing import ChangingScreen
from .form import ChoiceField, FormScreen, Meaning, TextField
from .question import Answer, QuestionScreen

if TYPE_CHECKING:
    from qcow.layout.snapshots import Snapshot

    from ...views.changes.staging import Request

_NO_SNAPSHOT = "Go to a snapshot first: this is the present state of the disk."


class DiskChangesScreen(ChangingScreen):
    """The dialogs of snapshots, resize, compact and discard."""

    @property
    def _image(self) -> Image:
        """The image as it would be after what is planned."""
        image = self.session.qcow2
        assert image is not None, "the conditions of the commands see to it"
        return image

    @on(Pane.Ask)
    def _pane_asks(self, event: Pane.Ask) -> None:
        event.stop()
        asked = {
            "snapshots.delete": self._delete,
            "snapshots.revert": self._revert,
            "snapshots.rename": self._rename,
        }
        if event.what in asked:
            chosen = [self._image.snapshots[index - 1] for index in event.of]
            if chosen:
                asked[event.what](chosen)
            else:
                self.say_why_not(_NO_SNAPSHOT)
        elif event.what == "map.discard":
            self._discard()
        else:
            self.ask_of_chain(event.what, event.of)

    def ask_of_chain(self, what: str, of: tuple[int, ...]) -> None:
        """A change of the chain was asked for."""

    def propose(self, make: Callable[[], Request]) -> None:
        """Plan what ``make`` asks for; what makes no sense is said."""
        try:
            request = make()
        except QcowError as error:
            self.say_why_not(str(error))
        else:
            self.plan(request)

    def fill_in(self, form: FormScreen, make: Callable[[Mapping[str, str]], Request]) -> None:
        """Let a form be filled in, then plan what it asks for."""

        def filled(values: Mapping[str, str] | None) -> None:
            if values is not None:
                self.propose(lambda: make(values))

        self.app.push_screen(form, filled)

    # ---- snapshots

    def action_take_snapshot(self) -> None:
        """Ask for the name of a new snapshot."""
        from ...views.changes import snapshot_requests as ask

        def meaning(values: Mapping[str, str]) -> Meaning:
            return Meaning(*ask.name_meaning(self._image, values["name"]))

        form = FormScreen(
            "Take a snapshot",
            "Keeps the disk as it is now. Only the tables are copied.",
            [TextField("name", "Name", placeholder="before-update")],
            meaning,
        )
        self.fill_in(form, lambda values: ask.take(values["name"]))

    def _delete(self, chosen: list[Snapshot]) -> None:
        from ...views.changes import snapshot_requests as ask

        self.propose(lambda: ask.delete(self._image, chosen))

    def _revert(self, chosen: list[Snapshot]) -> None:
        from ...views.changes import snapshot_requests as ask

        snapshot = chosen[0]

        def look(progress: ProgressCallback, cancel: CancelToken) -> int:
            return ask.difference(self.session, snapshot, progress, cancel)

        self.find_out("Looking how much differs", look, lambda n: self._ask_revert(snapshot, n))

    def _ask_revert(self, snapshot: Snapshot, differs: int) -> None:
        from ...views.changes import snapshot_requests as ask

        shown = safe(snapshot.name, 40) or safe(snapshot.id, 12)
        keep = ask.keep_name(snapshot.name.decode("utf-8", "surrogateescape"))
        text = (
            f'The disk becomes what "{shown}" holds. '
            f"The present state differs from it in {size(differs)}."
        )
        answers = [
            Answer("keep", "Keep the present state as a snapshot", safe(keep, 70)),
            Answer("drop", "Do not keep it", "undo brings it back until the space is reclaimed"),
        ]

        def answered(key: str | None) -> None:
            if key is not None:
                name = keep if key == "keep" else None
                self.propose(lambda: ask.revert(self._image, snapshot, name))

        title = f'Go back to "{shown}"'
        self.app.push_screen(QuestionScreen(title, text, answers), answered)

    def _rename(self, chosen: list[Snapshot]) -> None:
        from ...views.changes import snapshot_requests as ask

        snapshot = chosen[0]
        old = snapshot.name.decode("utf-8", "surrogateescape")

        def meaning(values: Mapping[str, str]) -> Meaning:
            if values["name"] == old:
                return Meaning("That is its name.", wrong=True)
            return Meaning(*ask.name_meaning(self._image, values["name"]))

        # A name that would not be shown as it is has to be typed anew.
        value = old if safe(old) == old else ""
        form = FormScreen(
            f'Rename "{safe(old, 40)}"', "", [TextField("name", "New name", value)], meaning
        )
        self.fill_in(form, lambda values: ask.rename(self._image, snapshot, values["name"]))

    # ---- the disk and the file

    def action_resize(self) -> None:
        """Ask for the new size."""
        from ...views.changes import disk_requests as ask

        now = self._image.virtual_size
        modes = ChoiceField(
            "preallocation",
            "When it grows, the new area is",
            (
                ("off", "taken as it is needed"),
                ("metadata", "mapped at once: its tables are written"),
                ("falloc", "set aside on the host"),
                ("full", "written with zeros"),
            ),
        )
        form = FormScreen(
            "Resize the disk",
            f"The guest's disk has {size_and_bytes(now)}. Snapshots keep their own size.",
            [
                TextField("size", "New size, or by how much", placeholder="20G, +10G or -512M"),
                modes,
            ],
            lambda values: Meaning(*ask.resize_meaning(values["size"], now)),
        )
        self.fill_in(form, lambda values: ask.resize(values, now))

    def action_compact(self) -> None:
        """Ask how to compact."""
        from ...views.changes import disk_requests as ask

        answers = [
            Answer("plain", "Compact", "moves data into holes, cuts the file; snapshots stay"),
            Answer("zeroes", "Compact, without zeros", "clusters full of zeros take no space then"),
            Answer("all", "Compact and put in order", "for sequential reading; takes longest"),
            Answer("keep", "Compact, and keep undo", "the space comes back at the next reclaim"),
        ]

        def answered(key: str | None) -> None:
            if key is not None:
                self.propose(lambda: ask.compact({"how": key}))

        text = "Makes the file as short as it can be, in place. Every snapshot is kept."
        self.app.push_screen(QuestionScreen("Compact", text, answers), answered)

    def _discard(self) -> None:
        from ...views.changes import disk_requests as ask

        disk = self._image.virtual_size
        selected = self.session.selection.guest_offset
        start = "" if selected is None else f"{selected:#x}"
        length = "" if selected is None else f"{min(self.session.cluster_size, disk - selected):#x}"
        how = ChoiceField(
            "how",
            "What happens to it",
            (
                ("discard", "discard: whole clusters are given up and read as zeros"),
                ("zero", "zero: every byte reads as zero, to the byte"),
            ),
        )
        form = FormScreen(
            "Discard a range of the guest disk",
            "",
            [
                TextField("start", "From guest byte", start, "0x1f0000, 64k, 10G"),
                TextField("length", "Length", length, "64k, 1M"),
                how,
            ],
            lambda values: Meaning(*ask.range_meaning(values, disk)),
        )
        self.fill_in(form, lambda values: ask.discard(values, disk))
