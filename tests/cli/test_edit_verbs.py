"""Every verb that changes an image: what it says, does, promises beforehand, and takes back."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import qcowtui
from tests.support.edited import assert_sound, contents
from tests.support.images import pattern, small_builder
from tests.support.qemu import qemu_io

from .asking import as_json, as_text, everything_in

pytestmark = pytest.mark.oracle

#: The command lines, with "top.qcow2" as the image; each changes something and can be undone.
EDITS = {
    "snapshot -c": ["snapshot", "-c", "now", "top.qcow2"],
    "snapshot -c -c": ["snapshot", "-c", "now", "-c", "then", "top.qcow2"],
    "snapshot -a": ["snapshot", "-a", "first", "--keep-as", "kept", "top.qcow2"],
    "snapshot -a --discard-current": ["snapshot", "-a", "1", "--discard-current", "top.qcow2"],
    "snapshot -d": ["snapshot", "-d", "first", "top.qcow2"],
    "snapshot --rename": ["snapshot", "--rename", "first", "the first", "top.qcow2"],
    "write": ["write", "--length", "5000", "top.qcow2", "4000", "/dev/zero"],
    "discard": ["discard", "top.qcow2", "0", "8k", "40k", "4k"],
    "discard --zero": ["discard", "--zero", "top.qcow2", "1", "5000"],
    "resize": ["resize", "top.qcow2", "+1M"],
    "resize --preallocation": ["resize", "--preallocation=full", "top.qcow2", "+64k"],
    "amend": ["amend", "-o", "refcount_bits=32,lazy_refcounts=on", "top.qcow2"],
    "bitmap --add": ["bitmap", "--add", "-g", "64k", "top.qcow2", "one"],
    "bitmap --add --disable": ["bitmap", "--add", "--disable", "top.qcow2", "one"],
    "flatten": ["flatten", "--change-snapshots", "top.qcow2"],
    "rebase": ["rebase", "-b", "", "--change-snapshots", "top.qcow2"],
    "rebase -u": ["rebase", "-u", "-b", "other.qcow2", "-F", "qcow2", "top.qcow2"],
    "relink": ["relink", "-b", "copy.qcow2", "-F", "qcow2", "top.qcow2"],
    "compact --no-reclaim": ["compact", "--zeroes", "--no-reclaim", "top.qcow2"],
    "commit": ["commit", "--allow-dependents", "top.qcow2"],
}
#: Members of each plan; docs/json.md describes them.
MEMBERS = (
    "action", "command", "summary", "steps", "warnings", "loses", "undo", "no-undo-reason",
    "bytes-written", "bytes-written-elsewhere", "extra-space", "file-length-before",
    "file-length-after", "freed", "returned", "switches", "journal", "freed-ranges",
    "written-ranges", "changed-guest-ranges", "truncated", "applied",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: ``top.qcow2`` with snapshot ``first``, on ``base.qcow2`` and copies."""
    base = small_builder(snapshot=False, cluster_bits=12)
    for name in ("base.qcow2", "copy.qcow2", "other.qcow2"):
        base.write(tmp_path / name)
    top = small_builder(snapshot=False, cluster_bits=12)
    top.forget(0, top.geometry.clusters(top.model.virtual_size))
    top.data(1, pattern(77, top.geometry.cluster_size))
    top.snapshot("first", date=1_750_000_000)
    top.data(2, pattern(78, top.geometry.cluster_size))
    top.backing("base.qcow2", "qcow2")
    top.write(tmp_path / "top.qcow2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=EDITS)
def edit(request: pytest.FixtureRequest) -> list[str]:
    return EDITS[request.param]


def test_a_dry_run_writes_nothing_and_tells_the_truth(
    edit: list[str], folder: Path, state: Path
) -> None:
    before = everything_in(folder, state)
    said = as_text(*edit, "--dry-run")
    planned = as_json(*edit, "-n")
    assert everything_in(folder, state) == before
    assert said.splitlines()[-1] == "Nothing was written (--dry-run)."
    assert planned["summary"].split()[:3] == said.split()[:3]
    assert (planned["applied"], planned["switches"] > 0) == (False, True)
    done = as_json(*edit)
    assert tuple(planned)[:21] == tuple(done)[:21] == MEMBERS[:-1]
    assert set(MEMBERS) <= set(done)
    assert (planned.pop("applied"), done.pop("applied")) == (False, True)
    assert done == planned
    assert_sound(folder / "top.qcow2")


def test_the_command_line_of_a_plan_does_the_same(edit: list[str], folder: Path) -> None:
    command = as_json(*edit, "--dry-run")["command"]
    program, *arguments = shlex.split(command)
    again = as_json(*arguments, "--dry-run")
    assert (program, again["command"]) == ("qcowtui", command)


def test_undo_takes_it_back_and_redo_makes_it_again(edit: list[str], folder: Path) -> None:
    image = folder / "top.qcow2"
    before, sector = contents(image), image.read_bytes()[:512]
    said = as_text(*edit)
    assert said.splitlines()[-1] == "undo: qcowtui undo top.qcow2"
    after, changed = contents(image), image.read_bytes()[:512]
    assert changed != sector
    assert as_text("undo", image).splitlines()[-1] == f"redo: qcowtui redo {image}"
    assert image.read_bytes()[:512] == sector
    if edit[0] != "commit":  # what was written to the base stays there
        assert contents(image) == before
    assert_sound(image)
    as_text("redo", image)
    assert image.read_bytes()[:512] == changed
    assert contents(image) == after


def test_quiet(edit: list[str], folder: Path) -> None:
    ended = qcowtui(*edit, "-q", "-p")
    assert (ended.code, ended.stdout, ended.stderr) == (0, b"", b"")


def test_without_undo_there_is_nothing_to_undo(folder: Path) -> None:
    image = folder / "top.qcow2"
    assert as_text("snapshot", "-q", "-c", "one", image) == ""
    said = as_text("snapshot", "-c", "two", "--no-undo", image)
    assert "undo:" not in said
    refused = qcowtui("undo", image)
    assert (refused.code, refused.stdout) == (1, b"")
    assert b"without keeping a way back, as was asked for" in refused.stderr


def test_reclaim_gives_back_and_ends_undo(folder: Path, state: Path) -> None:
    image = folder / "top.qcow2"
    as_text("write", "-l", "1M", image, "0", "/dev/zero")
    as_text("undo", image)
    before = everything_in(folder, state)
    planned = as_json("reclaim", "--dry-run", image)
    assert everything_in(folder, state) == before
    assert planned["returned"] >= 1 << 20
    assert (planned["undo"], planned["applied"]) == (False, False)
    done = as_json("reclaim", image)
    assert done["returned"] == planned["returned"]
    assert image.stat().st_size == done["file-length-after"] < done["file-length-before"]
    assert b"the space it needed was reclaimed" in qcowtui("redo", image).stderr
    assert_sound(image)


def test_compact_shortens_and_keeps_every_byte(folder: Path, state: Path) -> None:
    image = folder / "top.qcow2"
    as_text("write", "-l", "1M", image, "0", "/dev/urandom")
    as_text("snapshot", "-c", "full", image)
    as_text("discard", image, "0", "512k")
    as_text("snapshot", "-d", "full", image)
    disk, before = contents(image), everything_in(folder, state)
    planned = as_json("compact", "--zeroes", "--dry-run", image)
    assert everything_in(folder, state) == before
    done = as_json("compact", "--zeroes", image)
    assert done["saved-length"] == planned["saved-length"] > 1 << 19
    assert image.stat().st_size == done["file-length-after"]
    assert contents(image) == disk
    assert_sound(image)
    assert not as_json("history", image)["undo"]


@pytest.mark.parametrize("verb", ["undo", "redo"])
def test_nothing_to_go_back_or_forward_to(verb: str, folder: Path, state: Path) -> None:
    before = everything_in(folder)
    for flags in ((), ("--dry-run",)):
        ended = qcowtui(verb, *flags, folder / "top.qcow2")
        assert (ended.code, ended.stdout) == (1, b"")
        assert f"There is nothing to {verb} in".encode() in ended.stderr
    assert everything_in(folder) == before


def test_the_present_state_is_kept_unless_told_otherwise(folder: Path) -> None:
    image = folder / "top.qcow2"
    now = contents(image)[""]
    said = as_text("snapshot", "-a", "first", image)
    listed = as_json("snapshot", "-l", image)
    assert [snapshot["id"] for snapshot in listed] == ["1", "2"]
    kept = listed[1]["name"]
    assert kept.startswith("before-first-20")
    assert kept in said
    assert contents(image)["2"] == now
    as_text("snapshot", "-a", "first", "--discard-current", image)
    assert len(as_json("snapshot", "-l", image)) == 2


def test_several_actions_are_a_list_and_each_can_be_undone(folder: Path) -> None:
    line = ["bitmap", "--add", "--clear", "--disable", "top.qcow2", "b"]
    found = as_json(*line)
    assert [plan["action"] for plan in found] == ["bitmap"] * 3
    assert [plan["command"].split()[2] for plan in found] == ["--add", "--clear", "--disable"]
    for _ in range(2):
        as_text("undo", "top.qcow2")
    assert as_json("history", "top.qcow2")["entries"][0]["command"].split()[2] == "--add"


def test_bitmaps_merge_from_another_file(folder: Path) -> None:
    as_text("bitmap", "--add", "copy.qcow2", "there")
    as_text("write", "-l", "1", "copy.qcow2", "0", "/dev/zero")
    as_text("bitmap", "--add", "top.qcow2", "here")
    line = ["bitmap", "--merge", "there", "-b", "copy.qcow2", "-F", "qcow2", "top.qcow2", "here"]
    assert as_json(*line)["dirty-after"] == 4096


def test_write_reads_a_pipe_and_a_part_of_a_file(folder: Path) -> None:
    (folder / "source").write_bytes(b"ABCDEFGH")
    as_text("write", "--length=3", "top.qcow2", "1k", "source")
    assert contents(folder / "top.qcow2")[""][1024:1028] == b"ABC" + pattern(0, 4096)[1027:1028]


def test_resize_takes_and_gives(folder: Path) -> None:
    size = as_json("info", "top.qcow2")["virtual-size"]
    as_text("resize", "top.qcow2", "+1.5M")
    assert as_json("info", "top.qcow2")["virtual-size"] == size + 3 * 512 * 1024
    as_text("resize", "--shrink", "top.qcow2", "-1M")
    assert as_json("info", "top.qcow2")["virtual-size"] == size + 512 * 1024


def test_commit_names_its_base(folder: Path) -> None:
    disk = contents(folder / "top.qcow2")[""]
    found = as_json("commit", "-b", "base.qcow2", "--allow-dependents", "top.qcow2")
    assert found["emptied"] is False  # as qemu-img: -b implies -d
    assert contents(folder / "base.qcow2")[""] == disk
    refused = qcowtui("commit", "-b", "nobody.qcow2", "top.qcow2")
    assert b"Did not find 'nobody.qcow2' in the backing chain of" in refused.stderr


def test_what_needs_no_change_says_so(folder: Path) -> None:
    said = as_text("amend", "-o", "refcount_bits=16", "top.qcow2")
    assert said.splitlines()[-1] == "There was nothing to change."
    assert as_json("history", "top.qcow2")["entries"] == []


class TestHistory:
    def test_lists_without_writing(self, folder: Path, state: Path) -> None:
        image = folder / "top.qcow2"
        for name in ("one", "two", "three"):
            as_text("snapshot", "-c", name, image)
        as_text("undo", image)
        before = everything_in(folder, state)
        found = as_json("history", image)
        lines = as_text("history", image).splitlines()
        assert everything_in(folder, state) == before
        assert [entry["undone"] for entry in found["entries"]] == [False, False, True]
        assert found["entries"][0]["action"] == {"verb": "snapshot", "create": ["one"]}
        assert (found["undo"], found["redo"], found["given-up"]) == (True, True, [])
        marks = ("top.qcow2", "top.qcow2  <- undo", "top.qcow2  (undone)  <- redo")
        assert all(line.endswith(mark) for line, mark in zip(lines, marks, strict=True))

    def test_says_why_changes_were_given_up(self, folder: Path) -> None:
        image = folder / "top.qcow2"
        as_text("snapshot", "-c", "one", image)
        as_text("reclaim", image)
        found = as_json("history", image)
        assert (found["undo"], found["entries"]) == (False, [])
        (note,) = found["given-up"]
        assert note["reason"] == "the space it needed was reclaimed"
        assert note["commands"] == [f"qcowtui snapshot -c one {image}"]
        assert "Given up 20" in as_text("history", image)

    def test_of_an_image_that_another_program_changed(self, folder: Path, state: Path) -> None:
        image = folder / "top.qcow2"
        as_text("snapshot", "-c", "one", image)
        qemu_io(image, "write 0 4k")
        before = everything_in(state)
        found = as_json("history", image)
        assert not found["undo"]
        assert "another program changed it" in found["no-undo-reason"]
        assert everything_in(state) == before


class TestProgress:
    def test_events_as_json_lines(self, folder: Path) -> None:
        ended = qcowtui("snapshot", "-c", "x", "--progress=jsonl", "top.qcow2")
        events: list[dict[str, Any]] = [json.loads(row) for row in ended.stderr.splitlines()]
        assert ended.code == 0
        assert {tuple(event) for event in events} == {("event", "phase", "done", "total", "unit")}
        assert {event["event"] for event in events} == {"progress"}
        assert all(0 <= event["done"] <= event["total"] for event in events)

    def test_lines_for_a_log(self, folder: Path) -> None:
        ended = qcowtui("snapshot", "-c", "x", "-p", "top.qcow2")
        assert ended.code == 0
        assert "checking the image 0 %" in ended.stderr.decode().splitlines()
        assert b"\r" not in ended.stderr

    def test_nothing_without_being_asked(self, folder: Path) -> None:
        assert qcowtui("snapshot", "-c", "x", "top.qcow2").stderr == b""
