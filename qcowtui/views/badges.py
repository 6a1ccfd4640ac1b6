"""The badges beside a file name: how it may be used and whether it is well."""

from __future__ import annotations

from typing import NamedTuple

from qcow.image.image import Image
from qcow.layout.problems import REFERENCE_UNTRUSTED
from qcow.storage.holders import Holder

from .health import health
from .session import Part, PartState, Session
from .tones import Tone
from .units import count, plural


class Badge(NamedTuple):
    """``text`` is short and in capitals where it is a state; ``meaning`` a sentence.  Both safe."""

    text: str
    tone: Tone
    meaning: str


def badges(session: Session) -> tuple[Badge, ...]:
    """What is known so far, most important first."""
    found = [*_usage(session)]
    image = session.qcow2
    if image is not None:
        found += [*_health(session, image), *_kind(image)]
    return (*_changes(session), *found, _access(session))


def _changes(session: Session) -> list[Badge]:
    """What is about to happen to the file."""
    found = []
    if session.staged:
        found.append(
            Badge(
                f"PLANNED {count(len(session.staged))}",
                Tone.NOTE,
                "What is shown is the image as it would be: nothing of it is written yet.",
            )
        )
    if session.journal is not None:
        found.append(
            Badge(
                "UNFINISHED CHANGE", Tone.WARNING, f"{session.journal.what} It has to be completed."
            )
        )
    return found


def _access(session: Session) -> Badge:
    if session.unlocked and not session.live:
        return Badge("RW", Tone.WARNING, "Changes are allowed: each is planned and shown before.")
    return Badge("RO", Tone.MUTED, "Read-only: nothing is written to this file.")


def _usage(session: Session) -> list[Badge]:
    if not session.live:
        return []
    who = holder_names(session.holders, writers_only=True)
    text = f"IN USE {who}" if who else "IN USE"
    return [
        Badge(
            f"{text} · LIVE",
            Tone.WARNING,
            "Another process may be writing to this image. It is shown as it changes; what is "
            "half written may look wrong for a moment.",
        )
    ]


def holder_names(holders: tuple[Holder, ...], *, writers_only: bool = False) -> str:
    """``qemu-system-x86_64 6281``, or the first and how many more."""
    chosen = [one for one in holders if one.writing] if writers_only else list(holders)
    if not chosen:
        chosen = list(holders)
    if not chosen:
        return ""
    first = chosen[0]
    name = f"{first.command} {first.pid}" if first.pid else first.command
    return name if len(chosen) == 1 else f"{name} and {len(chosen) - 1} more"


def _health(session: Session, image: Image) -> list[Badge]:
    found = []
    if image.refused is not None:
        found.append(
            Badge("DAMAGED", Tone.BAD, f"QEMU would not open this image. {image.refused.what}")
        )
    check = session.check
    known = None if check is None else health(check, session.triage)
    if known is not None and known.corrupt:
        found.append(
            Badge(
                f"CORRUPT {count(known.corruptions)}",
                Tone.BAD,
                "The metadata contradicts itself: repair before anything writes to this image.",
            )
        )
    elif image.header.corrupt:
        found.append(
            Badge(
                "CORRUPT",
                Tone.BAD,
                "QEMU marked this image as corrupt and does not write to it until it is repaired.",
            )
        )
    if image.header.dirty:
        found.append(
            Badge(
                "DIRTY",
                Tone.NOTE,
                "Not cleanly shut down: refcounts were postponed (lazy refcounts). QEMU rebuilds "
                "them when it next opens the image for writing; no data is lost.",
            )
        )
    if known is not None and known.lost:
        found.append(
            Badge(
                f"LOST DATA {count(known.lost)}",
                Tone.BAD,
                f"{plural(known.lost, 'leaked cluster')} by their looks guest data that nothing "
                "leads to any more. A repair can bring it back; reclaiming leaks destroys it.",
            )
        )
    if known is not None and known.leaks:
        found.append(
            Badge(
                f"LEAKS {count(known.leaks)}",
                Tone.WARNING,
                f"{plural(known.leaks, 'cluster')} counted as used, but nothing refers to them: "
                "wasted space, or lost guest data. Look before anything reclaims them.",
            )
        )
    if known is not None and known.unchecked:
        found.append(
            Badge(
                "CHECK INCOMPLETE",
                Tone.WARNING,
                "Parts of the metadata could not be read, so not everything was checked.",
            )
        )
    elif known is not None and known.tone is Tone.GOOD and image.refused is None:
        found.append(
            Badge(
                "OK",
                Tone.GOOD,
                "No metadata errors found. What the guest stored was not verified.",
            )
        )
    if check is None and session.state_of(Part.CHECK) is PartState.FAILED:
        found.append(
            Badge("NOT CHECKED", Tone.WARNING, session.failures.get(Part.CHECK, "It failed."))
        )
    return found


def _kind(image: Image) -> list[Badge]:
    found = []
    if image.encrypted:
        method = "LUKS" if image.encryption == "luks" else "legacy AES"
        found.append(
            Badge(
                "ENCRYPTED",
                Tone.NOTE,
                f"What the guest stored is encrypted ({method}): unreadable without the key.",
            )
        )
    if any(finding.kind is REFERENCE_UNTRUSTED for finding in image.problems):
        found.append(
            Badge(
                "UNTRUSTED REFERENCE",
                Tone.WARNING,
                "This image names another file in a way that a program should not follow blindly. "
                "Nothing was opened.",
            )
        )
    return found
