"""The lines of a tree: a chain stays a column, branches step to the right."""

from __future__ import annotations

import pytest

from qcowtui.views.tree_lines import MAX_INDENT, Placed, tree_lines


def drawn(parents: list[int | None]) -> list[str]:
    return [f"{one.guides}{one.node}" for one in tree_lines(parents, lambda node: node)]


def test_an_only_child_stands_below_its_parent() -> None:
    assert drawn([None, 0, 1, 2]) == ["0", "1", "2", "3"]


def test_branches_step_to_the_right_once() -> None:
    # 0 has the children 1 and 3; 2 follows 1; 4 and 5 branch off 3.
    assert drawn([None, 0, 1, 0, 3, 3]) == ["0", "├─1", "│ 2", "└─3", "  ├─4", "  └─5"]


def test_several_roots_are_siblings() -> None:
    assert drawn([None, None, 1]) == ["├─0", "└─1", "  2"]


def test_siblings_come_in_the_order_of_the_key() -> None:
    found = tree_lines([None, 0, 0], lambda node: -node)
    assert found == [Placed(0, ""), Placed(2, "├─"), Placed(1, "└─")]


def test_a_long_chain_neither_recurses_nor_indents() -> None:
    parents = [None, *range(69_999)]
    found = tree_lines(parents, lambda node: node)
    assert len(found) == 70_000
    assert {one.guides for one in found} == {""}


def test_deep_branching_stops_indenting() -> None:
    # Every even node has two children: the next one and the next even one.
    parents: list[int | None] = [None]
    for number in range(1, 101):
        parents.append(number - 1 - (number + 1) % 2)
    found = tree_lines(parents, lambda node: node)
    assert len(found) == 101
    assert max(len(one.guides) for one in found) <= 2 * MAX_INDENT


@pytest.mark.parametrize("parents", [[0], [1, 0], [None, 2, 1]])
def test_a_circle_of_parents_loses_nobody(parents: list[int | None]) -> None:
    assert sorted(one.node for one in tree_lines(parents, lambda node: node)) == list(
        range(len(parents))
    )
