"""Maps of up to 2**40 clusters that answer for any zoom in a few milliseconds."""

from .classes import ClassPyramid, ClassSample
from .refcounts import RefcountPyramid, RefcountSample
from .tree import MAX_CLUSTERS

__all__ = ["MAX_CLUSTERS", "ClassPyramid", "ClassSample", "RefcountPyramid", "RefcountSample"]
