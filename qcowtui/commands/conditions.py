"""Why a command cannot be used now."""

from __future__ import annotations

from ..views.session import Part, PartState, Session


def needs_image(session: Session | None) -> str | None:
    return "Open an image first." if session is None else None


def needs_qcow2(session: Session | None) -> str | None:
    if session is not None and session.qcow2 is None:
        return "A raw image has no tables to look at."
    return needs_image(session)


def needs_tables(session: Session | None) -> str | None:
    reason = needs_qcow2(session)
    image = None if session is None else session.qcow2
    if reason is None and image is not None and image.geometry is None:
        return "The header is damaged, so no table can be found."
    return reason


def needs_map(session: Session | None) -> str | None:
    if session is not None and session.state_of(Part.HOST_MAP) is PartState.FAILED:
        return "There is no map: " + session.failures.get(Part.HOST_MAP, "it could not be read.")
    if session is not None and session.host_map is None:
        return "The map is not read yet."
    return needs_image(session)


def needs_both_maps(session: Session | None) -> str | None:
    reason = needs_map(session)
    if reason is None and session is not None and session.guest_map is None:
        return session.failures.get(Part.GUEST_MAP, "The guest disk is not mapped yet.")
    return reason


def needs_problems(session: Session | None) -> str | None:
    reason = needs_map(session)
    if reason is not None or session is None or session.host_map is None:
        return reason
    if session.drawn is not None:
        return None if session.drawn.ranges else "There is no difference."
    if not session.has_problem_clusters:
        if session.state_of(Part.HOST_MAP) is PartState.COMPLETE:
            return "No damaged or leaked cluster was found."
        return "No damaged or leaked cluster so far; the map is still being read."
    return None


def needs_backing(session: Session | None) -> str | None:
    reason = needs_qcow2(session)
    if reason is not None or session is None or session.qcow2 is None:
        return reason
    if session.qcow2.backing is None and session.qcow2.data_file is None:
        return "This image has no backing file and no data file."
    return None


def needs_snapshots(session: Session | None) -> str | None:
    reason = needs_qcow2(session)
    if reason is not None or session is None or session.qcow2 is None:
        return reason
    return None if session.qcow2.snapshots else "This image has no snapshots."


def needs_two_states(session: Session | None) -> str | None:
    reason = needs_tables(session)
    if reason is not None or session is None or session.qcow2 is None:
        return reason
    if not session.qcow2.snapshots and session.qcow2.backing is None:
        return "There is only one state: no snapshot and no backing file to compare with."
    return None


def needs_selection(session: Session | None) -> str | None:
    if session is not None and session.selection.empty:
        return "Nothing is selected."
    return needs_image(session)


def can_go_back(session: Session | None) -> str | None:
    if session is not None and not session.jumps.can_go_back:
        return "There is no earlier place to go back to."
    return needs_image(session)


def can_go_forward(session: Session | None) -> str | None:
    if session is not None and not session.jumps.can_go_forward:
        return "There is no later place to go forward to."
    return needs_image(session)
