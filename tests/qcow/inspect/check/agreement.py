"""Comparing a check with qemu-img's, number by number."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import qcow
from qcow.image.image import Image
from qcow.inspect.check import CheckResult, check
from tests.support.qemu import Argument, qemu_img

#: Attribute of a result -> key of qemu-img's JSON, absent when 0.
KEYS = {
    "corruptions": "corruptions",
    "leaks": "leaks",
    "check_errors": "check-errors",
    "image_end_offset": "image-end-offset",
    "total_clusters": "total-clusters",
    "allocated_clusters": "allocated-clusters",
    "fragmented_clusters": "fragmented-clusters",
    "compressed_clusters": "compressed-clusters",
}


@dataclass(frozen=True)
class Oracle:
    """qemu-img's verdict; ``numbers`` is None where it refused the image."""

    exit_code: int
    numbers: dict[str, int] | None
    text: str


def ask_qemu(*where: Argument) -> Oracle:
    """``qemu-img check`` of an image (a path, or the arguments that open it)."""
    done = qemu_img("check", "--output=json", *where, check=False)
    text = done.stderr.decode("utf-8", "replace")
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return Oracle(done.returncode, None, text)
    numbers = {name: said.get(key, 0) for name, key in KEYS.items()}
    return Oracle(done.returncode, numbers, text)


def numbers_of(result: CheckResult) -> dict[str, int]:
    """The part of a result that qemu-img has, too."""
    return {name: getattr(result, name) for name in KEYS}


def checked(path: Path, *, decode: bool = True) -> CheckResult:
    """Our check of a qcow2 file."""
    with open_image(path) as image:
        return check(image, decode=decode)


def open_image(path: Path) -> Image:
    image = qcow.open(path, format="qcow2")
    assert isinstance(image, Image)
    return image


def assert_agrees(path: Path, *where: Argument) -> CheckResult:
    """Our check has qemu-img's numbers and, where it sees no more than that, its exit code."""
    oracle = ask_qemu(*(where or (path,)))
    result = checked(path)
    assert numbers_of(result) == oracle.numbers, oracle.text
    if not result.extra_corruptions and not result.extra_leaks:
        assert result.exit_code == oracle.exit_code
    return result


def codes(result: CheckResult) -> list[str]:
    """The codes of the findings, in their order."""
    return [finding.code for finding in result.findings]
