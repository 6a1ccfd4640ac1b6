"""Repair on the dashboard: from the diagnosis through the wizard to the plan and the check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from textual import on

from qcow.errors import QcowError, UsageError
from qcow.findings import GuestRange
from qcow.jobs import CancelToken, ProgressCallback

from ...views.selection import select_guest
from ...views.session import Order
from ...views.units import size
from ..messages import QueueEnded
from .chain_changes import ChainChangesScreen

if TYPE_CHECKING:
    from qcow.edit.apply import Action
    from qcow.edit.mending import Mending
    from qcow.edit.plan import Plan
    from qcow.inspect.lost import LostImage

    from ...views.changes.applying import Report
    from ...views.changes.staging import Staged
    from ...views.pyramid import ClassPyramid
    from ...views.repair_view import Diagnosed
    from .form import Meaning
    from .plan_panel import Planned
    from .repair_wizard import Decided


class _Seen(NamedTuple):
    """A diagnosis, and what was chosen so far; of use while the image is the same."""

    revision: int
    found: Diagnosed
    choices: Mapping[str, str]


class RepairingScreen(ChainChangesScreen):
    """Finds out what is wrong, has it decided, and says what came of it."""

    _seen: _Seen | None = None
    _damaged_map: ClassPyramid | None = None
    _to_verify: Plan | None = None

    def action_repair(self) -> None:
        """Diagnose the image, or go on where it was left to look at the map."""
        self._damaged_map = self.session.host_map
        seen = self._seen
        if seen is not None and seen.revision == self.session.revision:
            self._ask_what(seen.found, seen.choices)
        elif self.session.qcow2 is None:
            from ...views.repair_view import scan

            self.find_out(
                "Looking for what is left of an image",
                lambda progress, cancel: scan(self.session, progress, cancel),
                self._ask_header,
            )
        else:
            self._diagnose({}, None)

    def _diagnose(self, choices: Mapping[str, str], mending: Mending | None) -> None:
        from ...views.repair_view import diagnosed

        def work(progress: ProgressCallback, cancel: CancelToken) -> Diagnosed:
            return diagnosed(self.session, choices, mending, progress, cancel)

        def ask(found: Diagnosed) -> None:
            kept = {key: value for key, value in choices.items() if key in found.keys}
            self._ask_what(found, kept)

        self.find_out("Looking for what can be repaired", work, ask)

    def _ask_what(self, found: Diagnosed, choices: Mapping[str, str]) -> None:
        from .repair_wizard import RepairWizard

        def decided(what: Decided | None) -> None:
            if what is None:
                self._seen = None
                return
            self._seen = _Seen(self.session.revision, found, what.choices)
            if what.show is not None:
                self._show_place(what.show)
            elif what.again:
                self._diagnose(what.choices, found.mending)
            else:
                self._plan_repair(what.choices, found.mending)

        self.app.push_screen(RepairWizard(found, choices), decided)

    def _show_place(self, place: GuestRange) -> None:
        """Go to guest data on the map; the wizard goes on from there."""
        if self.session.order is Order.HOST and self.session.guest_map is not None:
            self.action_toggle_order()
        self.jump(select_guest(place.start, place.state))
        self.run_worker(self.show_pane("map"))
        self.say_why_not(f"{self.key_for('repair.start')} goes on with the repair.")

    # ---- planning

    def _plan_repair(self, choices: Mapping[str, str], mending: Mending | None) -> None:
        from qcow.actions.repair import RepairImage

        from ...views.changes.staging import Request

        request = Request("Repair", RepairImage(dict(choices)))
        if mending is not None:
            self._plan_mended(request.action, mending)
        elif self.session.unlocked:
            self.plan(request)
        else:
            allow, again = self.key_for("edit.unlock"), self.key_for("repair.start")
            self.say_why_not(f"{allow} allows changes; {again} then goes on with what was chosen.")

    # ---- a file that lost its header

    def _ask_header(self, found: LostImage) -> None:
        from qcow.actions.repair.lost_header import mending_for

        from ...views.repair_view import proposal_choice, proposal_words
        from .form import ChoiceField, FormScreen, Meaning, TextField

        def go(answers: Mapping[str, str]) -> None:
            try:
                mending = mending_for(found, answers)
            except QcowError as error:
                self.explain("Repair", error)
            else:
                self._diagnose(answers, mending)

        proposals = found.proposals

        def answers_of(values: Mapping[str, str]) -> dict[str, str]:
            header = values.get("header", "1")
            given = values["size"].strip()
            # A header that recorded the size needs none; another one's is not its own.
            if not given and proposals[int(header) - 1].size is not None:
                return {"header": header}
            return {"header": header, "size": given}

        def explain(values: Mapping[str, str]) -> Meaning:
            answers = answers_of(values)
            chosen = proposals[int(answers["header"]) - 1]
            if answers.get("size") == "":
                return Meaning(f"From {size(chosen.least)} to {size(chosen.most)}.", wrong=True)
            try:
                mending_for(found, answers)
            except UsageError as error:
                return Meaning(str(error), wrong=True)
            return Meaning("The size can be changed later, too.")

        def filled(values: Mapping[str, str] | None) -> None:
            if values is not None:
                go(answers_of(values))

        best = proposals[0]
        known = "" if not best.size else str(best.size)
        fields: list[TextField | ChoiceField] = [
            TextField("size", "Size of the guest disk", known, "for example 20G")
        ]
        if len(proposals) > 1:
            choices = tuple((str(n), proposal_choice(one)) for n, one in enumerate(proposals, 1))
            label = (
                "The header, likeliest first (version, clusters, refcounts, L1 table, and what a "
                "check then finds)"
            )
            fields.append(ChoiceField("header", label, choices))
        form = FormScreen("No qcow2 header", proposal_words(found), fields, explain)
        self.app.push_screen(form, filled)

    def _plan_mended(self, action: Action, mending: Mending) -> None:
        from ...views.changes.staging import Request
        from ...views.repair_view import plan_mended
        from .plan_panel import PlanScreen

        def work(action: Action, progress: ProgressCallback, cancel: CancelToken) -> Staged:
            return plan_mended(self.session, action, mending, progress, cancel)

        def planned(answer: Planned | None) -> None:
            if answer is not None:
                staged = answer.staged
                self._apply_mended(staged, mending)

        request = Request("Write a new header and repair", action)
        self.app.push_screen(PlanScreen(request, work, now="Repair it now"), planned)

    def _apply_mended(self, staged: Staged, mending: Mending) -> None:
        from .apply_panel import ApplyScreen

        path = self.session.path

        def done(report: Report | None) -> None:
            staged.preview.close()
            if report is None:
                return
            if report.error is not None:
                self.restart_jobs()
                self.tell_report(report)
            else:
                self.qcow_app.show_repaired(path, report.done[0])

        work = self.work_on(path, (staged,), mending)
        self.app.push_screen(ApplyScreen((staged,), work), done)

    # ---- what came of it

    def tell_report(self, report: Report) -> None:
        repaired = [plan for plan in report.done if plan.verb == "repair"]
        if report.error is None and repaired and not repaired[-1].changes_nothing:
            self.verify(repaired[-1])
        else:
            super().tell_report(report)

    def verify(self, repaired: Plan) -> None:
        """Show what a repair came to, once the image was read and checked anew."""
        self._seen = None
        self._to_verify = repaired

    @on(QueueEnded)
    def _repaired_and_checked(self, event: QueueEnded) -> None:
        plan = self._to_verify
        if plan is None or event.cancelled or self.session.check is None:
            return
        from .verified_panel import VerifiedScreen

        self._to_verify = None

        def answered(undo: bool | None) -> None:
            if undo:
                self.action_undo()

        before, self._damaged_map = self._damaged_map, None
        key = self.key_for("edit.undo")
        self.app.push_screen(VerifiedScreen(plan, before, self.session, key), answered)
