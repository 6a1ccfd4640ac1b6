"""``info`` beside qemu-img: the same JSON text, the same human text, the same exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.text import safe
from tests.oracle.conftest import ByName
from tests.oracle.variants import each
from tests.support.cli import qcowtui, qcowtui_process
from tests.support.qemu import parsed, qemu_img

pytestmark = pytest.mark.oracle


@each()
def test_json_has_every_key_in_qemus_order(image: Path) -> None:
    theirs = qemu_img("info", "--output=json", image)
    ours = qcowtui("info", "--output=json", image)
    assert parsed(ours.stdout) == parsed(theirs.stdout)
    assert ours.stdout == theirs.stdout
    assert (ours.code, ours.stderr) == (0, b"")


@each(without="hostile")
def test_human_text_is_qemus(image: Path) -> None:
    theirs = qemu_img("info", image)
    ours = qcowtui("info", image)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert (ours.code, ours.stderr) == (0, b"")


@each(having="hostile")
def test_human_text_with_hostile_names_is_harmless(image: Path) -> None:
    """Row by row what qemu-img prints, the names made printable and nothing else changed."""
    ours = qcowtui("info", image).stdout.decode()
    assert all(line.isprintable() for line in ours.split("\n"))
    for _, name in _snapshot_names(image):
        assert safe(name) in ours


def _snapshot_names(image: Path) -> list[tuple[str, str]]:
    info = dict(parsed(qemu_img("info", "--output=json", image).stdout))
    return [(dict(each)["id"], dict(each)["name"]) for each in info["snapshots"]]


@each(having="backing", without="follow")
def test_whole_chain_as_json(image: Path) -> None:
    theirs = qemu_img("info", "--output=json", "--backing-chain", image)
    ours = qcowtui("info", "--output=json", "--backing-chain", "--follow", image)
    assert parsed(ours.stdout) == parsed(theirs.stdout)
    assert ours.stdout == theirs.stdout
    assert ours.code == 0


@each(having="follow")
def test_whole_chain_outside_the_folder(image: Path) -> None:
    theirs = qemu_img("info", "--backing-chain", image)
    ours = qcowtui("info", "--backing-chain", "--follow", image)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert ours.code == 0


def test_missing_file_ends_with_1(tmp_path: Path) -> None:
    theirs = qemu_img("info", tmp_path / "nothing.qcow2", check=False)
    ours = qcowtui("info", tmp_path / "nothing.qcow2")
    assert ours.code == theirs.returncode == 1
    assert ours.stdout == theirs.stdout == b""
    assert b"No such file or directory" in ours.stderr


@pytest.mark.parametrize(
    "content", [b"", b"x" * 1000, bytes(70_000)], ids=["empty", "1000", "zeros"]
)
@pytest.mark.parametrize("output", ["human", "json"])
def test_raw_file(tmp_path: Path, content: bytes, output: str) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(content)
    theirs = qemu_img("info", f"--output={output}", path)
    ours = qcowtui("info", f"--output={output}", path)
    assert ours.stdout.decode() == theirs.stdout.decode()
    assert ours.code == 0


def test_stated_raw_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    theirs = qemu_img("info", "-f", "raw", "--output=json", path)
    ours = qcowtui("info", "-f", "raw", "--output=json", path)
    assert ours.stdout == theirs.stdout


@pytest.mark.parametrize("name", ["snapshots-three", "bitmaps-several", "luks", "written-v2"])
def test_as_a_whole_process(name: str, by_name: ByName) -> None:
    image = by_name(name)
    theirs = qemu_img("info", "--output=json", image)
    ours = qcowtui_process("info", "--output=json", image)
    assert (ours.code, ours.stdout, ours.stderr) == (0, theirs.stdout, b"")
