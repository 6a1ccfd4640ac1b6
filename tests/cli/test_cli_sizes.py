"""Sizes as qemu-img prints and reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.errors import UsageError
from qcowtui.cli.qemu_size import format_size, parse_size
from tests.support.qemu import parsed, qemu_img

GIVEN = [
    "0", "1", "511", "1536", "0x600", "0X10", "0x10k", "007", "+5", " 5",
    "1k", "1K", "1.5k", "1.5K", "1.k", "1.0", "1.", "1.0b", "1b", "3M", "0.5G", "2T", "1.1P", "1e",
    "1.9999999999k", "0.3333333G", "9223372036854775807", "7E",
]  # fmt: skip
REFUSED = [
    "", "x", "-1", "-0", "1.5", "1.5b", ".5k", "5KB", "5 k", "1e3", "0x", "0x1.8k", "k", "1,5k",
    "8E", "9223372036854775808", "18446744073709551616", "٣",
]  # fmt: skip
PRINTED = [
    0, 1, 512, 999, 1000, 1023, 1024, 1536, 10_000, 100_000, 1_023_000, 1_024_000, 1_048_575,
    1_048_576, 5_000_000, 1_047_527_424, 1_073_741_824, 999 << 30, 1000 << 30, 1 << 42,
]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("text", GIVEN)
def test_what_qemu_img_reads(text: str) -> None:
    theirs = dict(parsed(qemu_img("measure", "--output=json", "--size", text).stdout))
    whole = -(-parse_size(text, "image size") // 512) * 512
    assert whole % (1 << 64) == theirs["required"] % (1 << 64)


@pytest.mark.oracle
@pytest.mark.parametrize("text", REFUSED)
def test_what_qemu_img_refuses(text: str) -> None:
    theirs = qemu_img("measure", f"--size={text}", check=False)
    assert theirs.returncode == 1
    with pytest.raises(UsageError) as caught:
        parse_size(text, "image size")
    assert str(caught.value).split("\n")[0] == theirs.stderr.decode().split("\n")[0][10:]


@pytest.mark.oracle
@pytest.mark.parametrize("number", PRINTED)
def test_what_qemu_img_prints(number: int, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(number)
    whole = -(-number // 512) * 512
    said = qemu_img("info", "-f", "raw", path).stdout.decode()
    assert f"virtual size: {format_size(whole)} ({whole} bytes)" in said.splitlines()


def test_bounds_are_named() -> None:
    assert parse_size("4k", "count", 1, 4096) == 4096
    with pytest.raises(UsageError, match=r"Invalid count specified. Must be between 1 and 4096."):
        parse_size("4097", "count", 1, 4096)
