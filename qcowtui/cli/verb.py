"""What a verb is."""

from __future__ import annotations

from collections.abc import Callable

from qcow.record import record

from .options import Arguments, Option
from .output import Output


@record
class Verb:
    """One verb.  ``run`` answers with the exit code and raises QcowError for what goes wrong."""

    name: str
    summary: str  # one line, no full stop
    operands: str  # as in the usage line
    options: tuple[Option, ...]
    run: Callable[[Arguments, Output], int]
    #: (arguments behind the verb, what that does); the first stands for the verb in the main help.
    examples: tuple[tuple[str, str], ...]
    #: Paragraphs for the verb's own help.
    notes: tuple[str, ...] = ()
    #: Exit codes other than 0 and 1, and what they mean.
    exits: tuple[tuple[int, str], ...] = ()
