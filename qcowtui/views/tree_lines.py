"""The lines in front of the rows of a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

_BRANCH, _LAST, _PASS, _GAP = "├─", "└─", "│ ", "  "
#: Deeper branches than this are not indented any further.
MAX_INDENT = 12


class Placed(NamedTuple):
    """A node and the lines in front of it."""

    node: int
    guides: str


def tree_lines(parents: Sequence[int | None], key: Callable[[int], Any]) -> list[Placed]:
    """The nodes ``0 ... len(parents) - 1`` from the roots down, siblings by ``key``.

    Only where a node has several children do these move one step to the right; an only child
    stands below its parent in the same column.  So a long line of snapshots stays a column, however
    long it is.  Nodes that do not hang on any root (a circle of parents) are listed last.
    """
    children: dict[int | None, list[int]] = {}
    for index, parent in enumerate(parents):
        children.setdefault(parent, []).append(index)
    for found in children.values():
        found.sort(key=key)
    placed: list[Placed] = []
    seen: set[int] = set()
    # What is to come: (node, lines before it, lines before what hangs below it).
    pending: list[tuple[int, str, str]] = []

    def push(nodes: list[int], below: str) -> None:
        if len(nodes) == 1:
            pending.append((nodes[0], below, below))
            return
        if len(below) >= 2 * MAX_INDENT:
            pending.extend((node, below, below) for node in reversed(nodes))
            return
        for node in reversed(nodes):
            last = node == nodes[-1]
            pending.append(
                (node, below + (_LAST if last else _BRANCH), below + (_GAP if last else _PASS))
            )

    push(children.get(None, []), "")
    while pending:
        node, guides, below = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        placed.append(Placed(node, guides))
        push(children.get(node, []), below)
    placed += [Placed(index, "") for index in range(len(parents)) if index not in seen]
    return placed
