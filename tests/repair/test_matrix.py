"""The damage matrix: the default plan loses nothing more than the damage did, and can be undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from .damage import DAMAGES
from .images import IMAGES
from .matrix import Case, cases, measure
from .table import GROUPS, committed

CASES = cases()


def test_the_matrix_is_large_and_covers_every_image_and_damage() -> None:
    assert len(CASES) >= 150
    assert {case.variant.name for case in CASES} == {variant.name for variant in IMAGES}
    assert {case.damage.name for case in CASES} == {damage.name for damage in DAMAGES}
    assert {damage.group for damage in DAMAGES} == set(GROUPS)


def test_the_page_has_these_cases_and_no_others() -> None:
    assert set(committed()) == {(case.damage.name, case.variant.name) for case in CASES}


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_repair(case: Case, tmp_path: Path) -> None:
    result = measure(case, tmp_path)
    assert not result.wrong
    assert result.ours_lost <= result.theirs_lost, "more is lost than qemu-img loses"
    assert result.ours_lost <= result.damaged_lost, "the repair itself lost something"
    found = result.applied or result.left or result.refused
    assert found or case.damage.unseen, "the damage was not found"
    if not result.left and not result.refused:
        assert result.ours.errors == 0
    assert result.verdict == committed()[case.damage.name, case.variant.name]
