"""Distinct values of integer arrays.

``np.unique`` does the same, but its first call imports numpy.ma, which takes longer than checking a
small image does.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Integer = TypeVar("_Integer", bound=np.integer)


def distinct(values: NDArray[_Integer]) -> NDArray[_Integer]:
    """The different values of a one-dimensional array, ascending, of the same dtype."""
    ordered = np.sort(values)
    return ordered[_heads(ordered)]


def distinct_counts(values: NDArray[_Integer]) -> tuple[NDArray[_Integer], NDArray[np.int64]]:
    """The different values, ascending, and how often each occurs (int64)."""
    ordered = np.sort(values)
    at = np.flatnonzero(_heads(ordered))
    return ordered[at], np.diff(at, append=np.int64(len(ordered)))


def _heads(ordered: NDArray[_Integer]) -> NDArray[np.bool_]:
    heads = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=heads[1:])
    return heads
