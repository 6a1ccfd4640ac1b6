"""What only this program's ``check`` can do."""

from __future__ import annotations

from pathlib import Path

from qcowtui.samples.builder import ImageBuilder
from tests.cli.asking import as_json
from tests.support.cli import qcowtui
from tests.support.images import patch, pattern, qemu_check


def _broken_stream(path: Path) -> Path:
    builder = ImageBuilder(virtual_size=1 << 20)
    builder.data(0, pattern(1, 65536))
    builder.compressed(1, pattern(2, 65536))
    builder.write(path)
    l1 = int.from_bytes(path.read_bytes()[40:48], "big")
    l2 = int.from_bytes(path.read_bytes()[l1 : l1 + 8], "big") & ((1 << 56) - 512)
    entry = int.from_bytes(path.read_bytes()[l2 + 8 : l2 + 16], "big")
    patch(path, (entry & ((1 << 54) - 1)) + 1, b"\xff" * 16)
    return path


def test_compressed_data_is_unpacked_unless_that_is_left_out(tmp_path: Path) -> None:
    path = _broken_stream(tmp_path / "a.qcow2")
    assert qemu_check(path).corruptions == 0
    whole = as_json("check", path, code=2)
    assert whole["extra-corruptions"] == 1
    assert [one["code"] for one in whole["findings"]] == ["QCOW-COMPRESSED-DAMAGED"]
    quick = as_json("check", "--no-decode", path)
    assert "extra-corruptions" not in quick
    assert quick["findings"] == []
    assert quick["compressed-clusters"] == whole["compressed-clusters"] == 1


def test_the_help_names_it() -> None:
    assert b"--no-decode" in qcowtui("check", "--help").stdout
