"""Rows of numbers: the byte matrix beside plain formatting, one row after the other."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcowtui.cli.number_rows import CHUNK, Line, Number, RowPrinter, write_json_list
from qcowtui.cli.output import Output

LINES = [
    Line(("[", ", ", ", é ", "]\n"), (True, True, True)),
    Line(("", "|", "", "\n"), (True, False, True)),
    Line(("a longer text before: ", ",", ",", ".\n"), (False, True, True)),
]
NUMBERS = (Number.DECIMAL, Number.HEX, Number.PADDED_HEX)
EDGES = [0, 1, 9, 10, 9999, 10_000, 10_001, 99_999_999, 100_000_000, 0xFFFF, 0x10000, (1 << 63) - 1]

numbers = st.one_of(st.sampled_from(EDGES), st.integers(0, (1 << 63) - 1))
rows = st.lists(
    st.tuples(st.integers(0, len(LINES) - 1), numbers, numbers, numbers), min_size=1, max_size=60
)


def _spelt(number: int, how: Number) -> str:
    if how is Number.DECIMAL:
        return str(number)
    text = f"{number:#x}" if number else "0"
    return text.ljust(16) if how is Number.PADDED_HEX else text


def _plainly(table: Sequence[tuple[int, ...]]) -> bytes:
    text = ""
    for kind, *values in table:
        line = LINES[kind]
        text += line.texts[0]
        for value, how, shown, behind in zip(
            values, NUMBERS, line.shown, line.texts[1:], strict=True
        ):
            text += (_spelt(value, how) if shown else "") + behind
    return text.encode()


def _printed(table: Sequence[tuple[int, ...]]) -> bytes:
    columns = np.array(table, dtype=np.int64).T
    return b"".join(RowPrinter(LINES, NUMBERS).print(columns[0], list(columns[1:])))


@given(rows)
def test_as_plain_formatting(table: list[tuple[int, ...]]) -> None:
    assert _printed(table) == _plainly(table)


@pytest.mark.parametrize("number", EDGES)
def test_every_width(number: int) -> None:
    table = [(kind, number, number, number) for kind in range(len(LINES))]
    assert _printed(table) == _plainly(table)


def test_more_rows_than_are_made_at_a_time() -> None:
    table = [(index % 3, index, index * 977, index << 20) for index in range(2 * CHUNK + 5)]
    assert _printed(table) == _plainly(table)


def test_numbers_that_are_not_shown_may_be_negative() -> None:
    assert _printed([(1, 5, -1, 7)]) == b"5|0x7             \n"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([], b"[]\n"),
        ([b"1,\n"], b"[1]\n"),
        ([b"1,\n2,\n", b"3,\n"], b"[1,\n2,\n3]\n"),
    ],
)
def test_a_list_ends_without_a_comma(texts: list[bytes], said: bytes) -> None:
    out = io.BytesIO()
    with mock.patch.object(sys, "stdout", io.TextIOWrapper(out, "utf-8", write_through=True)):
        output = Output()
        assert write_json_list(texts, output) is bool(texts)
        output.flush()
        assert out.getvalue() == said
