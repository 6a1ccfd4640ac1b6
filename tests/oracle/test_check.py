"""``check`` beside qemu-img: every count, the exit code, the human summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.catalogue.base import Variant
from tests.oracle.conftest import ByName
from tests.oracle.variants import each
from tests.support.cli import qcowtui, qcowtui_process
from tests.support.qemu import parsed, qemu_img, with_key

pytestmark = pytest.mark.oracle


def _oracle(variant: Variant, image: Path) -> tuple[tuple[str, ...], Path | None]:
    """How qemu-img opens the image: encrypted ones it refuses to check without the key."""
    for kind in ("luks", "aes"):
        if kind in variant.tags:
            return with_key(image, kind), None
    return (str(image),), image


def _without_findings(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in pairs if key != "findings"]


@each()
def test_json_has_every_count_in_qemus_order(variant: Variant, image: Path) -> None:
    where, named = _oracle(variant, image)
    theirs = qemu_img("check", "--output=json", *where, check=False)
    ours = qcowtui("check", "--output=json", image)
    expected = [
        (key, value if key != "filename" or named else str(image))
        for key, value in parsed(theirs.stdout)
    ]
    assert _without_findings(parsed(ours.stdout)) == expected
    assert ours.code == theirs.returncode


@each()
def test_human_summary_is_qemus(variant: Variant, image: Path) -> None:
    where, _ = _oracle(variant, image)
    theirs = qemu_img("check", *where, check=False)
    ours = qcowtui("check", image)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert ours.code == theirs.returncode


@each()
def test_findings_agree_with_the_exit_code(image: Path) -> None:
    """No damage without a finding, no finding of damage on a sound image."""
    ours = qcowtui("check", "--output=json", image)
    gravest = {finding["severity"] for finding in json.loads(ours.stdout)["findings"]}
    assert ("corruption" in gravest) == (ours.code == 2)
    assert "leak" in gravest or ours.code != 3
    assert "error" not in gravest


def test_raw_has_no_check(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(100_000))
    theirs = qemu_img("check", "-f", "raw", path, check=False)
    ours = qcowtui("check", "-f", "raw", path)
    assert ours.code == theirs.returncode == 63
    assert ours.stdout == theirs.stdout
    assert b"This image format does not support checks" in ours.stderr


def test_missing_file_ends_with_1(tmp_path: Path) -> None:
    assert qemu_img("check", tmp_path / "no", check=False).returncode == 1
    assert qcowtui("check", tmp_path / "no").code == 1


@pytest.mark.parametrize("name", ["damaged-leaks", "damaged-overlap", "compressed-zstd", "written"])
def test_as_a_whole_process(name: str, by_name: ByName) -> None:
    image = by_name(name)
    theirs = qemu_img("check", "--output=json", image, check=False)
    ours = qcowtui_process("check", "--output=json", image)
    assert _without_findings(parsed(ours.stdout)) == parsed(theirs.stdout)
    assert ours.code == theirs.returncode
