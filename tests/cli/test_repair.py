"""``repair`` and ``check -r``: plans, dry runs, carrying out, choices, refusals, lost headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qcow.image.image import Image
from qcow.opening import open as open_image
from tests.smoke.test_terminal import terminal
from tests.support.cli import qcowtui
from tests.support.images import guest_bytes, patch, sha256, small_builder
from tests.support.live import io_session
from tests.support.qemu import qemu_img

BITS, SIZE = 12, 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_builder(cluster_bits=BITS).write(tmp_path / "disk.qcow2")


def _l2(path: Path) -> int:
    with open_image(path) as image:
        assert isinstance(image, Image)
        return int(image.active.l1()[0]) & 0x00FF_FFFF_FFFF_FE00


def lose_counts(path: Path) -> None:
    """Refcounts of some used clusters become 0: nothing is lost, everything can be mended."""
    with open_image(path) as image:
        assert isinstance(image, Image)
        table = image.header.refcount_table_offset
    block = int.from_bytes(path.read_bytes()[table : table + 8], "big")
    patch(path, block + 12, bytes(6))


def misalign(path: Path) -> None:
    """A mapping that cannot be right: a person has to choose."""
    patch(path, _l2(path) + 3 * 8, (0x8000_0000_0000_0200).to_bytes(8, "big"))


def _json(*args: str | Path) -> tuple[int, dict[str, Any]]:
    done = qcowtui(*args)
    return done.code, json.loads(done.stdout)


def test_nothing_to_repair(path: Path) -> None:
    before = sha256(path)
    for mode in ([], ["--plan"], ["--dry-run"], ["--apply"]):
        done = qcowtui("repair", *mode, path)
        assert (done.code, done.stderr) == (0, b"")
        assert b"nothing to repair" in done.stdout
    assert qcowtui("check", "-r", "all", path).code == 0
    assert sha256(path) == before


@pytest.mark.oracle
def test_plan_dry_run_apply_undo(path: Path) -> None:
    disk = guest_bytes(small_builder(cluster_bits=BITS).model)
    lose_counts(path)
    damaged = sha256(path)
    code, plan = _json("repair", "--plan", "--output=json", path)
    assert (code, plan["default-treats"], plan["needs-choice"]) == (2, 1, 0)
    (remedy,) = plan["remedies"]
    assert (remedy["id"], remedy["default"]) == ("refcounts", "rebuild")
    (option,) = remedy["options"]
    assert option["loses"] is None
    assert set(option) >= {"key", "title", "keeps", "writes", "certain", "changes", "evidence"}
    code, dry = _json("repair", "--dry-run", "--output=json", path)
    assert (code, dry["action"], dry["applied"], dry["switches"]) == (0, "repair", False, 1)
    assert dry["left"] == []
    shown = qcowtui("repair", path)
    assert shown.code == 2
    assert b"--apply" in shown.stdout
    assert b"undo" in shown.stdout
    assert sha256(path) == damaged
    done = qcowtui("repair", "--apply", path)
    assert (done.code, done.stderr) == (0, b"")
    assert b"undo: qcowtui undo" in done.stdout
    assert qemu_img("check", "-q", path).returncode == 0
    assert qcowtui("read", "--output=raw", path).stdout == disk
    assert qcowtui("undo", path).code == 0
    assert qcowtui("check", "-q", path).code == 2


@pytest.mark.oracle
def test_a_choice_has_to_be_made(path: Path) -> None:
    misalign(path)
    _, plan = _json("repair", "--plan", "--json", path)
    (lost,) = (r for r in plan["remedies"] if r["code"] == "QCOW-DATA-UNALIGNED")
    key = lost["options"][0]["key"]
    assert lost["default"] is None
    assert lost["options"][0]["loses"]
    text = qcowtui("repair", "--plan", path).stdout.decode()
    assert f"--choice {lost['id']}={key}" in text
    alone = qcowtui("repair", "--apply", "--only", lost["id"], path)
    assert alone.code == 1
    assert b"needs a choice" in alone.stderr
    applied = qcowtui("repair", "--apply", "--choice", f"{lost['id']}={key}", path)
    assert applied.code == 0
    _, after = _json("check", "--json", path)
    assert "corruptions" not in after
    assert qcowtui("read", "-o", str(3 * SIZE), "-l", str(SIZE), "--output=raw", path).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plan", "--apply"], b"exclude each other"),
        (["--apply", "--choice", "x"], b"expects KEY=VALUE"),
        (["--apply", "--choice", "a=b", "--choice", "a=c"], b"two answers"),
        (["--apply", "--choice", "nonsense=x"], b'There is no finding "nonsense"'),
        (["--apply", "--only", "nonsense"], b'There is no finding "nonsense"'),
        (["--apply", "--choice", "refcounts=nonsense"], b"there are: rebuild"),
    ],
)
def test_refused_requests(words: list[str], said: bytes, path: Path) -> None:
    lose_counts(path)
    before = sha256(path)
    done = qcowtui("repair", *words, path)
    assert done.code == 1
    assert said in done.stderr
    assert sha256(path) == before


@pytest.mark.oracle
@pytest.mark.parametrize("words", [["repair", "--apply"], ["repair"], ["check", "-r", "all"]])
def test_an_image_in_use_is_left_alone(words: list[str], path: Path) -> None:
    lose_counts(path)
    with io_session(path):
        before = sha256(path)
        done = qcowtui(*words, path)
        assert done.code == 1
        assert b"Failed to get" in done.stderr
        assert sha256(path) == before


@pytest.mark.oracle
def test_check_r_all_and_leaks(path: Path) -> None:
    lose_counts(path)
    done = qcowtui("check", "-r", "all", path)
    assert done.code == 0
    assert b"3 corruptions\n" in done.stdout
    assert b"No errors were found on the image." in done.stdout
    assert b"undo: " in done.stdout
    assert qemu_img("check", "-q", path).returncode == 0
    misalign(path)
    code, said = _json("check", "-r", "all", "--output=json", path)
    assert code == 2
    assert [r["code"] for r in said["left"] if r["code"] == "QCOW-DATA-UNALIGNED"]
    assert said["corruptions"]


@pytest.mark.parametrize("extent", ["leaks", "all"])
def test_check_r_says_how_much_it_mended(extent: str, path: Path) -> None:
    lose_counts(path)
    code, said = _json("check", "-r", extent, "--output=json", path)
    assert (code, said["corruptions-fixed"], said["repaired"]) == (0, 3, ["refcounts"])
    assert said["left"] == []


def test_check_r_refuses_what_makes_no_sense(path: Path) -> None:
    before = sha256(path)
    for words, said in (
        (["-r", "some"], b"expecting 'leaks' or 'all'"),
        (["-r", "all", "-U"], b"force-share=on can only be used with read-only images"),
    ):
        done = qcowtui("check", *words, path)
        assert done.code == 1
        assert said in done.stderr
    assert sha256(path) == before


@pytest.mark.parametrize("typed", ["n", "y"])
def test_at_a_terminal_it_is_asked(typed: str, path: Path) -> None:
    lose_counts(path)
    before = sha256(path)
    with terminal("repair", path.name, folder=path.parent) as screen:
        screen.until("[y/N] ")
        screen.press(f"{typed}\n")
        screen.until("Done" if typed == "y" else "Nothing was changed.")
        assert screen.ended() == (typed == "n")
    assert (sha256(path) == before) == (typed == "n")


@pytest.mark.oracle
def test_a_lost_header(path: Path) -> None:
    patch(path, 0, bytes(512))
    known = qcowtui("repair", "--plan", path)
    assert (known.code, b"size=SIZE" in known.stdout) == (2, False)  # its snapshot tells the size
    path.unlink()
    builder = small_builder(cluster_bits=BITS, snapshot=False)
    size = -(-builder.model.virtual_size // SIZE) * SIZE
    disk = guest_bytes(builder.model)
    patch(builder.write(path), 0, bytes(512))
    before = sha256(path)
    first = qcowtui("repair", "--plan", path)
    assert first.code == 1
    assert b"size=SIZE" in first.stdout
    _, found = _json("repair", "--plan", "--output=json", path)
    assert found["headers"][0]["cluster-size"] == SIZE
    assert found["headers"][0]["errors"] == 0
    unanswered = qcowtui("repair", "--apply", path)
    assert unanswered.code == 1
    assert b"--plan" in unanswered.stderr
    assert sha256(path) == before
    choice = f"size={size}"
    plan = qcowtui("repair", "--plan", "--choice", choice, path)
    assert b"header-lost" in plan.stdout
    done = qcowtui("repair", "--apply", "--yes", "--choice", choice, path)
    assert (done.code, done.stderr) == (0, b"")
    assert qemu_img("check", "-q", path).returncode == 0
    assert qcowtui("read", "--output=raw", path).stdout == disk.ljust(size, b"\0")
    assert qcowtui("undo", path).code == 0
    assert path.read_bytes()[:512] == bytes(512)


def test_a_raw_file_holds_no_image(tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    raw.write_bytes(bytes(1 << 20))
    done = qcowtui("repair", raw)
    assert done.code == 1
    assert b"No structures of a qcow2 image were found" in done.stderr
