"""Bytes of a cluster with the structures in them named, for the hex view.

:func:`annotate` is pure: bytes, what they are, and where they lie, in; notes out.  It names only
what touches a window of the bytes, so that a table of a quarter of a million entries costs no more
than what is on the screen.
"""

from .annotate import annotate
from .model import Context, Note, Structure, context_for, structures_of
from .near import Reading, notes_near, readings_of

__all__ = [
    "Context",
    "Note",
    "Reading",
    "Structure",
    "annotate",
    "context_for",
    "notes_near",
    "readings_of",
    "structures_of",
]
