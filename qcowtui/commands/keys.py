"""How keys are written for people."""

from __future__ import annotations

_SHOWN = {
    "question_mark": "?",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "equals_sign": "=",
    "plus": "+",
    "minus": "-",
    "slash": "/",
    "colon": ":",
    "escape": "esc",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "space": "space",
}


def shown_key(key: str) -> str:
    """``question_mark`` as ``?``, ``shift+tab`` as it is, ``f1`` as ``F1``."""
    if len(key) > 1 and key[0] == "f" and key[1:].isdigit():
        return key.upper()
    *modifiers, last = key.split("+") if key != "plus" else ["plus"]
    return "+".join([*modifiers, _SHOWN.get(last, last)])


def shown_keys(keys: tuple[str, ...]) -> str:
    """Several keys, the usual one first."""
    return " ".join(shown_key(key) for key in keys)
