"""The terminal app.  ``run`` starts it; nothing of Textual is imported before that."""

from __future__ import annotations

import os
import sys

from qcow.errors import QcowError


def run(
    path: str | None, *, ascii: bool = False, color: str | None = None, writable: bool = False
) -> int:
    """Show the image at ``path``, or without one the list of images; the exit code.

    ``ascii`` draws maps with one character a cell and borders without line art.  ``color`` is
    ``"truecolor"``, ``"256"``, ``"16"`` or ``"none"``; None finds out from the terminal.  An image
    that cannot be opened is explained on stderr, without any screen.  ``writable`` allows changes
    of that image from the start.
    """
    _choose_colours(color)
    # Opening comes before the screen: it takes milliseconds, and what it refuses belongs on stderr.
    from ..views.app_state import load_state, state_path
    from ..views.session import open_with_grants

    session = None
    if path is not None:
        try:
            session = open_with_grants(path, load_state(state_path()))
            session.unlocked = writable and session.qcow2 is not None
        except QcowError as error:
            print(f"qcowtui: {error}", file=sys.stderr)
            return error.exit_code
    from .app import run_app

    return run_app(session, ascii_only=ascii)


def _choose_colours(color: str | None) -> None:
    """Textual reads the environment once, when it is imported."""
    if color == "none":
        os.environ["NO_COLOR"] = "1"
    elif color is not None:
        os.environ["TEXTUAL_COLOR_SYSTEM"] = {"16": "standard"}.get(color, color)
