"""How the command line spells the class of a cluster: ``l2``, ``zero-allocated``, ``vm-state``."""

from __future__ import annotations

from qcow.inspect.classes import ClusterClass


def class_name(kind: ClusterClass) -> str:
    """A stable name for programs, part of the JSON schema."""
    return kind.name.lower().replace("_", "-")
