"""Shares of a bar: nothing small disappears, and the cells add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qcowtui.views.bars import shares, stacked


@given(st.lists(st.integers(0, 1 << 60), min_size=1, max_size=20), st.integers(0, 300))
def test_cells_add_up_and_what_exists_is_seen(amounts: list[int], cells: int) -> None:
    found = shares(amounts, cells)
    present = sum(amount > 0 for amount in amounts)
    assert sum(found) == (cells if present else 0)
    assert all(count == 0 for amount, count in zip(amounts, found, strict=True) if amount == 0)
    if present <= cells:
        assert all(count > 0 for amount, count in zip(amounts, found, strict=True) if amount)


def test_shares_are_in_proportion() -> None:
    assert shares([1, 1, 2], 8) == [2, 2, 4]
    assert shares([1 << 40, 1, 0], 10) == [9, 1, 0]
    assert shares([0, 0], 10) == [0, 0]


def test_stacked_bars_stand_behind_each_other() -> None:
    assert stacked([1, 3, 0, 4], 8) == [(0, 1), (1, 3), (4, 0), (4, 4)]
