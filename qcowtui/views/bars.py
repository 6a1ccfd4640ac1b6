"""Amounts as cells of a bar, without losing what is small."""

from __future__ import annotations

from collections.abc import Sequence


def shares(amounts: Sequence[int], cells: int) -> list[int]:
    """Divide ``cells`` among ``amounts`` in proportion; the result adds up to ``cells``.

    Every amount above 0 gets at least one cell while there are enough of them: the largest shares
    give way.  When all amounts are 0, so are all shares.
    """
    total = sum(amounts)
    if total <= 0 or cells <= 0:
        return [0] * len(amounts)
    exact = [amount * cells for amount in amounts]
    found = [part // total for part in exact]
    by_rest = sorted(range(len(amounts)), key=lambda i: exact[i] % total, reverse=True)
    for index in by_rest[: cells - sum(found)]:
        found[index] += 1
    starved = [i for i, amount in enumerate(amounts) if amount > 0 and not found[i]]
    for index in starved:
        richest = max(range(len(found)), key=found.__getitem__)
        if found[richest] < 2:
            break
        found[richest] -= 1
        found[index] = 1
    return found


def stacked(amounts: Sequence[int], cells: int) -> list[tuple[int, int]]:
    """``(first cell, cells)`` of each share when they stand one behind the other."""
    places = []
    at = 0
    for count in shares(amounts, cells):
        places.append((at, count))
        at += count
    return places
