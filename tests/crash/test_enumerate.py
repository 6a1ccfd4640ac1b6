"""The crash enumerator against a model that is nothing but a definition of it."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from .enumerate import SECTOR, Op, apply, epochs, replay, states, states_of_two

BASE = bytes(range(1, 5)) * SECTOR  # 2048 bytes


def after(*ops: Op, base: bytes = BASE) -> bytes:
    file = bytearray(base)
    for op in ops:
        apply(file, op)
    return bytes(file)


class TestOperations:
    def test_a_write_within_and_beyond(self) -> None:
        assert after(("w", 2, b"xy"), base=b"abcdef") == b"abxyef"
        assert after(("w", 5, b"xy"), base=b"abcdef") == b"abcdexy"
        assert after(("w", 8, b"xy"), base=b"abcdef") == b"abcdef\0\0xy"

    def test_a_length(self) -> None:
        assert after(("t", 2), base=b"abc") == b"ab"
        assert after(("t", 5), base=b"abc") == b"abc\0\0"

    def test_a_hole_keeps_the_length(self) -> None:
        assert after(("p", 1, 1), base=b"abc") == b"a\0c"
        assert after(("p", 1, 9), base=b"abc") == b"a\0\0"
        assert after(("p", 7, 9), base=b"abc") == b"abc"

    def test_barriers_part_epochs(self) -> None:
        write: Op = ("w", 0, b"x")
        cut: Op = ("t", 1)
        barrier: Op = ("b",)
        assert epochs([barrier, write, cut, barrier, barrier, write]) == [[write, cut], [write]]
        assert replay(b"abc", [write, barrier, cut]) == b"x"


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("w"), st.integers(0, 3000), st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("t"), st.integers(0, 3000)),
        st.tuples(st.just("p"), st.integers(0, 3000), st.integers(0, 600)),
        st.just(("b",)),
    ),
    max_size=9,
)


class TestStates:
    @limits(max_examples=60, deadline=None)
    @given(OPS)
    def test_every_subset_of_every_epoch(self, ops: list[Op]) -> None:
        found = [file for _, file in states(BASE, ops)]
        assert len(found) == len(set(found)), "each state once"
        assert found[0] == BASE
        durable, expected = BASE, {BASE}
        for epoch in epochs(ops):
            expected |= {
                replay(durable, some)
                for size in range(len(epoch) + 1)
                for some in combinations(epoch, size)
            }
            durable = replay(durable, epoch)
        assert expected <= set(found)
        assert durable in found
        # What is more is torn: writes that reach over a sector boundary.
        torn = {label for label, file in states(BASE, ops) if file not in expected}
        assert all("torn" in label for label in torn)

    def test_never_what_a_barrier_forbids(self) -> None:
        first: Op = ("w", 0, b"first")
        second: Op = ("w", 512, b"second")
        found = {file for _, file in states(BASE, [first, ("b",), second])}
        assert found == {BASE, after(first), after(first, second)}

    def test_tears_only_at_sector_boundaries(self) -> None:
        data = b"x" * 700
        found = {file for _, file in states(BASE, [("w", 500, data)])}
        first, rest = data[:12], data[12:]
        assert found == {
            BASE,
            after(("w", 500, data)),
            after(("w", 500, first)),
            after(("w", 512, rest)),
            after(("w", 500, data[:524])),
            after(("w", 1024, data[524:])),
        }

    def test_a_sector_is_never_torn(self) -> None:
        found = [file for _, file in states(BASE, [("w", 512, b"x" * 512)])]
        assert len(found) == 2

    def test_torn_beside_and_after_others(self) -> None:
        one: Op = ("w", 0, b"1")
        two: Op = ("w", 512, b"2" * 1024)
        three: Op = ("w", 1800, b"3")
        found = {file for _, file in states(BASE, [one, two, three], full=0, random=0)}
        front: Op = ("w", 512, b"2" * 512)
        assert {after(front), after(one, front), after(one, front, three)} <= found

    def test_many_operations_are_sampled(self) -> None:
        ops: list[Op] = [("w", number * 32, bytes([number + 100])) for number in range(30)]
        found = {file for _, file in states(BASE, ops, random=10)}
        assert {after(*ops[:size]) for size in range(31)} <= found
        assert {after(*ops[:one], *ops[one + 1 :]) for one in range(30)} <= found
        assert {after(op) for op in ops} <= found
        assert 31 + 29 + 29 < len(found) <= 31 + 29 + 29 + 3 * 10

    def test_cuts_bound_the_tears(self) -> None:
        big: Op = ("w", 0, bytes(200) + b"x" * 512 * 40)
        found = list(states(BASE, [big], cuts=3))
        assert len(found) == 2 + 2 * 3

    def test_one_seed_one_answer(self) -> None:
        ops: list[Op] = [("w", number * 40, bytes([number + 100]) * 30) for number in range(40)]
        first = list(states(BASE, ops, seed=5))
        assert first == list(states(BASE, ops, seed=5))
        assert first != list(states(BASE, ops, seed=6))


class TestTwoFiles:
    A: Op = ("w", 0, b"aaaa")
    B: Op = ("w", 0, b"bbbb")

    def pairs(self, ops: list[tuple[int, Op]]) -> set[tuple[bytes, bytes]]:
        found = [(one, other) for _, one, other in states_of_two((BASE, BASE), ops)]
        assert len(found) == len(set(found))
        return set(found)

    def test_a_barrier_of_one_does_not_order_the_other(self) -> None:
        new_a, new_b = after(self.A), after(self.B)
        assert self.pairs([(0, self.A), (1, ("b",)), (1, self.B)]) == {
            (BASE, BASE),
            (new_a, BASE),
            (BASE, new_b),
            (new_a, new_b),
        }

    def test_its_own_barrier_does(self) -> None:
        new_a, new_b = after(self.A), after(self.B)
        assert self.pairs([(0, self.A), (0, ("b",)), (1, self.B)]) == {
            (BASE, BASE),
            (new_a, BASE),
            (new_a, new_b),
        }

    @pytest.mark.parametrize("file", [0, 1])
    def test_of_one_file_it_is_the_same_as_states(self, file: int) -> None:
        ops: list[Op] = [self.A, ("t", 3000), ("b",), ("w", 400, b"x" * 900), ("p", 0, 100)]
        one = {state for _, state in states(BASE, ops, full=6, random=16, cuts=2)}
        found = self.pairs([(file, op) for op in ops])
        assert {pair[file] for pair in found} == one
        assert {pair[1 - file] for pair in found} == {BASE}

    def test_many_states_are_paired_with_the_extremes(self) -> None:
        ops: list[tuple[int, Op]] = [
            (number % 2, ("w", number * 40, bytes([number + 100]))) for number in range(24)
        ]
        found = self.pairs(ops)
        only = [[op for file, op in ops if file == wanted] for wanted in (0, 1)]
        nothing, everything = (BASE, BASE), (after(*only[0]), after(*only[1]))
        assert {nothing, everything, (BASE, everything[1]), (everything[0], BASE)} <= found
        for op in only[0]:
            assert {(after(op), BASE), (after(op), everything[1])} <= found
