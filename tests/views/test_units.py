"""The spelling of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcowtui.views import units


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 << 30, "64 GiB"),
        (21 * (1 << 30) + 429 * (1 << 20), "21.4 GiB"),
        (310 << 20, "310 MiB"),
        (int(310.46 * (1 << 20)), "310 MiB"),
        ((1 << 30) - 1, "1 GiB"),
        (1023 * 1024 + 600, "1 MiB"),
        (1 << 63, "8 EiB"),
        (-(5 << 20), "-5 MiB"),
    ],
)
def test_size(number: int, text: str) -> None:
    assert units.size(number) == text


@given(st.integers(1, 1 << 66))
def test_size_is_within_half_a_percent_or_the_last_digit(number: int) -> None:
    digits, unit = units.size(number).split()
    power = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB").index(unit)
    shown = float(digits) * 1024**power
    assert 1 <= float(digits) < 1024
    assert abs(shown - number) <= (0.5 if float(digits) >= 100 else 0.05) * 1024**power * 1.0001


def test_exact_and_counts() -> None:
    assert units.exact(68_719_476_736) == "68,719,476,736 bytes"
    assert units.exact(1) == "1 byte"
    assert units.size_and_bytes(64 << 30) == "64 GiB (68,719,476,736 bytes)"
    assert units.size_and_bytes(10) == "10 bytes"
    assert units.plural(1, "entry", "entries") == "1 entry"
    assert units.plural(2, "entry", "entries") == "2 entries"
    assert units.count(1048576) == "1,048,576"
    assert units.offset(0x2C40000) == "0x2c40000"


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0 %"),
        (5, 0, "0 %"),
        (10, 10, "100 %"),
        (1, 1_000_000, "<0.1 %"),
        (999_999, 1_000_000, ">99.9 %"),
        (1, 8, "12.5 %"),
    ],
)
def test_percent(part: int, whole: int, text: str) -> None:
    assert units.percent(part, whole) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.34, "0.3 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3725, "1 h 02 min"),
        (183_600, "2 d 03 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_rates() -> None:
    assert units.byte_rate(13_002_342) == "12.4 MiB/s"
    assert units.count_rate(1200.4, "cluster") == "1,200 clusters/s"


@pytest.mark.parametrize(
    ("position", "step", "text"),
    [
        (0, 4096, "0"),
        (512, 512, "0x200"),
        (600 << 20, 600 << 20, "600 Mi"),
        (1200 << 20, 600 << 20, "1.17 Gi"),
        (9 << 40, 1 << 40, "9 Ti"),
        ((9 << 40) + (19 << 20), 19 << 20, "9216.01 Gi"),
        ((9 << 40) + 65536, 65536, "0x90000010000"),
    ],
)
def test_axis_label(position: int, step: int, text: str) -> None:
    assert units.axis_label(position, step) == text


@given(st.integers(0, 1 << 50), st.integers(1, 1 << 40))
def test_neighbouring_rows_never_have_the_same_label(row: int, step: int) -> None:
    position = row // step * step
    assert units.axis_label(position, step) != units.axis_label(position + step, step)
