"""The dashboard: everything about one image on one screen."""

from __future__ import annotations

from ...views.selection import Selection, select_host
from ...views.summary import places
from .working import WorkingScreen


class Dashboard(WorkingScreen):
    """Header, allocation map, refcounts, snapshots, backing chain and findings of one image."""

    def first_place(self) -> Selection:
        """What is selected when nothing was: the first cluster."""
        return select_host(0)

    async def action_escape(self) -> None:
        """Leave what was opened last; never the app."""
        pane = self.focused_pane
        if pane is not None and pane.escape():
            return
        if self.unzoom():
            return
        if self.stop_jobs():
            return

    def action_copy(self) -> None:
        """Put the addresses of the selection on the clipboard."""
        text = " · ".join(
            f"{one.label} {one.value}".strip()
            for one in places(self.session, self.session.selection)
        )
        self.app.copy_to_clipboard(text)
        self.notify(text, title="Copied, if your terminal allows it", markup=False)
