"""States of a disk (active, snapshots, layers) in words, and which there are to choose from."""

from __future__ import annotations

import os
from typing import NamedTuple

from qcow.image.image import Image
from qcow.text import safe

from .selection import ACTIVE
from .session import Session
from .snapshot_view import date_words
from .units import size


def state_name(image: Image, label: str) -> str:
    """A state's label (``active``, ``snapshot:ID``) as people name it, safe to show."""
    for snapshot in image.snapshots:
        if snapshot.label == label:
            return safe(snapshot.name, 32) or f"snapshot {safe(snapshot.id, 12)}"
    return safe(label, 40)


def state_words(session: Session, text: str) -> str:
    """A state as commands spell it (``layer:1`` too), for people, safe to show."""
    if text.startswith("layer:") and text[6:].isdigit():
        number = int(text[6:])
        if number < len(session.layers):
            return f"layer {number} ({safe(os.path.basename(session.layers[number].name), 32)})"
    image = session.qcow2
    return safe(text, 40) if image is None else state_name(image, text)


class StateChoice(NamedTuple):
    """``key`` as commands spell it; the texts are safe to show."""

    key: str
    text: str
    detail: str


def state_choices(session: Session) -> tuple[StateChoice, ...]:
    """Every state that can be compared: active, the snapshots, the layers that are open."""
    found = [StateChoice(ACTIVE, "active", "the disk as the guest sees it now")]
    image = session.qcow2
    for snapshot in () if image is None else image.snapshots:
        name = safe(snapshot.name, 50) or "(no name)"
        found.append(
            StateChoice(
                snapshot.label,
                name,
                f"snapshot {safe(snapshot.id, 12)}, taken {date_words(snapshot)}",
            )
        )
    for layer in session.layers[1:]:
        if layer.format is not None:
            key = f"layer:{layer.depth}"
            detail = "" if layer.virtual_size is None else f"{size(layer.virtual_size)} virtual"
            found.append(StateChoice(key, state_words(session, key), detail))
    return tuple(found)
