"""A disk made of several files: an image, the backing files below it, and their data files.

``following`` opens them through the gate, ``disk`` is the guest disk through all of them (map and
bytes), ``coverage`` says which layer serves how much of it, ``dependents`` looks the other way:
which images back onto this one.  Nothing here loads numpy before a map is asked for.
"""

from .coverage import Coverage, LayerInfo, coverage, layer_infos
from .dependents import Dependent, DependentSearch, dependents
from .disk import Chain
from .following import MAX_DEPTH, MAX_DEPTH_FOLLOW, open_chain
from .layer import Layer, LayerStatus

__all__ = [
    "MAX_DEPTH",
    "MAX_DEPTH_FOLLOW",
    "Chain",
    "Coverage",
    "Dependent",
    "DependentSearch",
    "Layer",
    "LayerInfo",
    "LayerStatus",
    "coverage",
    "dependents",
    "layer_infos",
    "open_chain",
]
