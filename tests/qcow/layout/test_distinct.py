"""Distinct values, against the function they stand in for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcow.layout.distinct import distinct, distinct_counts


@given(st.lists(st.integers(0, 9)))
def test_equals_unique(values: list[int]) -> None:
    array = np.array(values, dtype=np.uint16)
    found, counts = distinct_counts(array)
    expected, expected_counts = np.unique(array, return_counts=True)
    assert found.tolist() == distinct(array).tolist() == expected.tolist()
    assert counts.tolist() == expected_counts.tolist()
    assert found.dtype == array.dtype


def test_it_does_not_pay_for_masked_arrays() -> None:
    code = (
        "import sys, numpy as np\n"
        "from qcow.layout.distinct import distinct\n"
        "distinct(np.array([2, 1, 2]))\n"
        "assert 'numpy.ma' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
