"""Why a command that changes the image cannot be used now."""

from __future__ import annotations

from qcow.chain.layer import LayerStatus
from qcow.findings import Severity

from ..views.changes.obstacles import (
    NOT_FOLLOWED,
    PLANNED,
    UNFINISHED,
    obstacle,
    shut,
    unlock_obstacle,
)
from ..views.session import Part, Session
from .conditions import needs_backing, needs_image, needs_snapshots, needs_tables


def can_change(session: Session | None) -> str | None:
    return needs_image(session) if session is None else obstacle(session)


def can_unlock(session: Session | None) -> str | None:
    if session is None:
        return needs_image(session)
    if session.unlocked:
        return PLANNED if session.staged else None
    return unlock_obstacle(session)


def can_snapshot(session: Session | None) -> str | None:
    image = None if session is None else session.qcow2
    if image is not None and image.data_file is not None:
        return "An image with an external data file cannot have snapshots."
    return can_change(session)


def can_change_snapshot(session: Session | None) -> str | None:
    return needs_snapshots(session) or can_change(session)


def can_change_base(session: Session | None) -> str | None:
    reason = needs_backing(session)
    if reason is None and session is not None and session.qcow2 is not None:
        reason = None if session.qcow2.backing is not None else "This image has no backing file."
    return reason or can_change(session)


def can_set_base(session: Session | None) -> str | None:
    return needs_tables(session) or can_change(session)


def can_read_base(session: Session | None) -> str | None:
    """For what moves data between the layers: their files have to be open."""
    reason = can_change_base(session)
    if reason is not None or session is None:
        return reason
    if len(session.layers) < 2:
        return session.failures.get(Part.CHAIN, "The backing chain is not read yet.")
    shut = next((one for one in session.layers if one.status is not LayerStatus.OK), None)
    if shut is None:
        return None
    return NOT_FOLLOWED if shut.status is LayerStatus.REFUSED else shut.reason


def can_repair(session: Session | None) -> str | None:
    if session is None:
        return needs_image(session)
    if session.qcow2 is None:
        # Looking for what is left of an image; it is asked again before anything is written.
        return unlock_obstacle(session) if session.live else None
    if not any(finding.severity >= Severity.LEAK for finding in session.findings):
        if session.check is None:
            return "Nothing is known to be damaged so far; the check has not ended."
        return "No damage was found: there is nothing to repair."
    if session.staged:
        return PLANNED
    # Finding out what could be done writes nothing; changes have to be allowed only for the plan.
    return unlock_obstacle(session) or (UNFINISHED if session.journal is not None else None)


def can_undo(session: Session | None) -> str | None:
    return _open(session) or _past(session, "no_undo")


def can_redo(session: Session | None) -> str | None:
    return _open(session) or _past(session, "no_redo")


def _open(session: Session | None) -> str | None:
    """For what may be done to a damaged image, too."""
    return needs_image(session) if session is None else shut(session)


def _past(session: Session | None, why: str) -> str | None:
    if session is None:
        return None
    if session.staged:
        return PLANNED
    if session.past is None:
        return session.failures.get(Part.PAST, "The history of the image is not read yet.")
    reason: str | None = getattr(session.past, why)
    return reason


def needs_plans(session: Session | None) -> str | None:
    if session is not None and not session.staged:
        return "No change is planned."
    return _open(session)


def needs_plan_map(session: Session | None) -> str | None:
    if session is not None and session.staged and session.plan_map is None:
        return "What is planned is not drawn yet."
    return None if session is not None and session.staged else "No change is planned."


def needs_journal(session: Session | None) -> str | None:
    if session is None or session.journal is None:
        return "No unfinished change waits."
    return unlock_obstacle(session) if session.live else None


def needs_nothing_planned(session: Session | None) -> str | None:
    if session is not None and session.staged:
        return PLANNED
    return None


def needs_image_as_it_is(session: Session | None) -> str | None:
    return needs_image(session) or needs_nothing_planned(session)
