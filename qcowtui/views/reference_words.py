"""What is said of a second file that an image names and nobody has opened."""

from __future__ import annotations

from typing import NamedTuple

from qcow.errors import ReferenceRefused
from qcow.storage.gate import Gate, Policy, leads_outside, resolve

from .tones import Tone


class ReferenceWords(NamedTuple):
    """``words`` for beside the name, ``sentence`` for the details; both are safe to show."""

    words: str
    sentence: str
    tone: Tone
    grantable: bool  # the user can allow it


def unopened(
    gate: Gate, containing_path: str | None, name: bytes, key: str, reason: str = ""
) -> ReferenceWords:
    """Why ``name`` is not opened, judged by its text alone: nothing is looked up.

    ``containing_path`` is where the image that names it was opened from, ``key`` what the user
    presses to allow it, ``reason`` the engine's sentence after an attempt.
    """
    outside = leads_outside(containing_path, name)
    try:
        resolve(containing_path or "image", name)
    except ReferenceRefused:
        sentence = f"It is shown as text and never opened: {outside}."
        return ReferenceWords("never opened", sentence, Tone.WARNING, False)
    if gate.policy is Policy.FOLLOW:
        return ReferenceWords("not opened", reason, Tone.WARNING, False)
    if gate.policy is Policy.FOLDERS:
        sentence = "It lies outside the folders you trust."
    else:
        sentence = "Only the image itself is looked at until you allow more."
    tone = Tone.NOTE
    if outside:
        tone = Tone.WARNING
        sentence += (
            f" Careful: {outside}. Whoever made the image chose the name, so allow it only if you "
            "know where the image comes from."
        )
    words = f"not opened: press {key}" if key else "not opened"
    return ReferenceWords(words, sentence, tone, True)
