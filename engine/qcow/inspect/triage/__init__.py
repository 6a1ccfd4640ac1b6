"""Triage: what leaked clusters hold, before anything of them is reclaimed."""

from .classes import LeakClass
from .report import CERTAIN, LIKELY, POSSIBLE, Fit, LeakGroup, Orphan, Triage
from .run import triage

__all__ = [
    "CERTAIN",
    "LIKELY",
    "POSSIBLE",
    "Fit",
    "LeakClass",
    "LeakGroup",
    "Orphan",
    "Triage",
    "triage",
]
