"""Back and forward."""

from __future__ import annotations

from qcowtui.views.jumplist import MAX_PLACES, JumpList
from qcowtui.views.selection import Selection, select_guest, select_host


def test_back_and_forward() -> None:
    jumps = JumpList()
    assert jumps.back() is None
    jumps.visit(select_host(1), select_host(5))
    jumps.visit(select_host(6), select_host(9))
    assert [jumps.back(), jumps.back(), jumps.back()] == [
        select_host(6),
        select_host(5),
        select_host(1),
    ]
    assert jumps.back() is None
    assert not jumps.can_go_back
    assert jumps.forward() == select_host(5)
    assert jumps.can_go_forward


def test_a_new_jump_forgets_what_was_ahead() -> None:
    jumps = JumpList()
    jumps.visit(select_host(1), select_host(2))
    jumps.back()
    jumps.visit(select_host(1), select_host(3))
    assert jumps.forward() is None
    assert jumps.back() == select_host(1)
    assert jumps.forward() == select_host(3)


def test_the_same_place_is_kept_once_and_nowhere_is_not_kept() -> None:
    jumps = JumpList()
    jumps.visit(Selection(), select_guest(0))
    assert not jumps.can_go_back
    jumps.visit(select_guest(0), select_guest(0))
    assert not jumps.can_go_back


def test_it_does_not_grow_for_ever() -> None:
    jumps = JumpList()
    for number in range(3 * MAX_PLACES):
        jumps.visit(select_host(number), select_host(number + 1))
    steps = 0
    while jumps.back() is not None:
        steps += 1
    assert steps == MAX_PLACES - 1
