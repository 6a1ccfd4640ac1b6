"""Asking a person before something is lost; a program is never asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from qcow.edit.plan import Plan

from .output import Output

_WORD = "yes"


def somebody_to_ask() -> bool:
    """Whether a person reads the question and types the answer."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def confirmed(plans: Sequence[Plan], output: Output) -> bool:
    """Whether the answer is yes.  What can be undone takes a letter, what cannot a whole word."""
    output.flush()
    if all(plan.undoable for plan in plans):
        return _answer("Go ahead? [y/N] ") in ("y", _WORD)
    return _answer(f'Type "{_WORD}" to go ahead: ') == _WORD


def _answer(question: str) -> str:
    """What is typed; nothing at the end of the input."""
    sys.stderr.write(question)
    sys.stderr.flush()
    typed = sys.stdin.readline()
    if not typed.endswith("\n"):
        sys.stderr.write("\n")
    return typed.strip().lower()
