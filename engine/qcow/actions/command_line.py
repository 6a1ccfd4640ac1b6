"""The command line that does what an action does, quoted for a shell."""

from __future__ import annotations

import shlex


def command_line(verb: str, *arguments: str) -> str:
    """``qcowtui VERB ARGUMENTS``; raw text, to be passed through ``safe()`` before it is shown."""
    return shlex.join(("qcowtui", verb, *arguments))
