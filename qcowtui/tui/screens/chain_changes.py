"""Asking for changes of the backing chain: relink, rebase, flatten, commit."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from qcow.jobs import CancelToken, ProgressCallback
from qcow.text import safe

from ...views.units import plural, size
from .disk_changes import DiskChangesScreen
from .path import PathScreen
from .question import Answer, QuestionScreen

if TYPE_CHECKING:
    from qcow.actions.base_evidence import Candidate
    from qcow.actions.commit_runs import Readers
    from qcow.edit.apply import Action

    from ...views.changes.applying import Report
    from ...views.changes.chain_requests import Base
    from ...views.changes.staging import Request, Staged
    from .plan_panel import Planned

#: Other readers of a base that are offered to be flattened one by one.
_MAX_OTHERS = 8
_OTHER_FILE = "another file"


class ChainChangesScreen(DiskChangesScreen):
    """The dialogs of the chain; who else reads a base is looked up before it is written to."""

    def ask_of_chain(self, what: str, of: tuple[int, ...]) -> None:
        from ...views.changes import chain_requests as ask

        if what == "chain.flatten":
            self.plan(ask.flatten())
        elif what == "chain.commit":
            self._look_who_reads(of[0])
        elif what == "chain.relink":
            self._look_for_bases("Relink: which file is the backing file?", ask.relink)
        elif what == "chain.rebase":
            self._look_for_bases("Rebase: onto which file?", ask.rebase)

    # ---- another backing file

    def _look_for_bases(self, title: str, make: Callable[[Base], Request]) -> None:
        from ...views.changes.chain_requests import search_bases

        def search(progress: ProgressCallback, cancel: CancelToken) -> tuple[Candidate, ...]:
            return search_bases(self.session, progress, cancel)

        self.find_out(
            "Looking at files that could be it",
            search,
            lambda found: self._choose_base(title, found, make),
        )

    def _choose_base(
        self, title: str, found: tuple[Candidate, ...], make: Callable[[Base], Request]
    ) -> None:
        from ...views.changes.chain_requests import Base, candidate_words

        backing = self._image.backing
        named = f"The image names '{safe(backing.name, 60)}'." if backing is not None else ""
        looked = f"{plural(len(found), 'image')} found nearby, the likeliest first."
        answers = [Answer(one.path, *candidate_words(one)) for one in found]
        answers.append(Answer(_OTHER_FILE, "Another file …", "type its path"))

        def answered(key: str | None) -> None:
            if key == _OTHER_FILE:
                self._type_base(make)
            elif key is not None:
                one = next(each for each in found if each.path == key)
                self._use_base(Base(one.path, one.name, one.format), make)

        text = f"{named} {looked}".strip()
        self.app.push_screen(QuestionScreen(title, text, answers), answered)

    def _type_base(self, make: Callable[[Base], Request]) -> None:
        from ...views.changes.chain_requests import base_at

        image = self._image

        def typed(path: str | None) -> None:
            if path is not None:
                self.find_out(
                    "Looking at the file",
                    lambda _progress, _cancel: base_at(image, path),
                    lambda base: self._use_base(base, make),
                )

        folder = os.path.dirname(os.path.abspath(self.session.path))
        self.app.push_screen(PathScreen(folder, "The backing file"), typed)

    def _use_base(self, base: Base, make: Callable[[Base], Request]) -> None:
        from ...views.changes.chain_requests import gate_for

        # Choosing a file is leave to open it.
        self.session.gate = gate_for(self.session, base)
        self.plan(make(base))

    # ---- commit, and who else reads the base

    def _look_who_reads(self, base: int) -> None:
        from ...views.changes.chain_requests import readers

        self.find_out(
            "Looking who else reads the base",
            lambda _progress, cancel: readers(self.session, base, cancel),
            lambda found: self._commit(base, found),
        )

    def _commit(self, base: int, found: Readers) -> None:
        from ...views.changes import chain_requests as ask

        if not found.others:
            self.plan(ask.commit(base))
            return
        names = [safe(os.path.basename(path), 40) for path in found.others]
        layer = self.session.layers[base]
        shown = safe(os.path.basename(layer.name), 40)
        covered = self.session.layers[0].coverage
        amount = 0 if covered is None else covered.served
        change = f"Up to {size(amount)}" if amount else "Something"
        who = ", ".join(names[:_MAX_OTHERS]) + (" and more" if len(names) > _MAX_OTHERS else "")
        text = (
            f"'{shown}' is also read by {who}.\n{change} will change under "
            f"{'it' if len(names) == 1 else 'them'}: commit writes to the base."
        )
        answers = [
            Answer(path, f"Flatten {name} first", "it takes a copy of what it reads from the base")
            for path, name in zip(found.others[:_MAX_OTHERS], names, strict=False)
        ]
        answers.append(Answer("", "Leave it", "nothing is changed"))
        answers.append(Answer("commit", "Commit nevertheless", f"I know: {who} will change"))

        def answered(key: str | None) -> None:
            if key == "commit":
                self.plan(ask.commit_nevertheless(base))
            elif key:
                self._flatten_other(key, base)

        self.app.push_screen(QuestionScreen(f"Commit to '{shown}'", text, answers), answered)

    def _flatten_other(self, path: str, base: int) -> None:
        """Flatten another image that reads the base, then ask about the commit again."""
        from ...views.changes.chain_requests import flatten, plan_elsewhere
        from .plan_panel import PlanScreen

        gate = self.session.gate
        request = flatten()._replace(title=f"Flatten {safe(os.path.basename(path), 40)}")

        def work(action: Action, progress: ProgressCallback, cancel: CancelToken) -> Staged:
            return plan_elsewhere(path, action, gate, progress, cancel)

        def planned(result: Planned | None) -> None:
            if result is not None:
                self.carry_out_on(path, [result.staged], applied, reviewed=True)

        def applied(report: Report | None) -> None:
            if report is None:
                return
            self.restart_jobs()
            self.tell_report(report)
            if report.error is None:
                self._look_who_reads(base)

        screen = PlanScreen(request, work, now="Flatten it now")
        self.app.push_screen(screen, planned)
