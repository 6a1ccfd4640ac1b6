"""What cannot be changed: one sentence, an exit code, and not one byte touched."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcow.edit.editor import Editor
from tests.support.cli import qcowtui
from tests.support.edited import assert_sound, contents
from tests.support.images import patch, small_builder
from tests.support.live import io_session, nbd_server
from tests.support.qemu import qemu_img

from .asking import as_json, as_text, everything_in

pytestmark = pytest.mark.oracle

#: A command line for each verb, the image at "{}".
VERBS = {
    "snapshot": ["snapshot", "-c", "x", "{}"],
    "write": ["write", "-l", "1", "{}", "0", "/dev/zero"],
    "discard": ["discard", "{}", "0", "4k"],
    "resize": ["resize", "{}", "1G"],
    "commit": ["commit", "{}"],
    "rebase": ["rebase", "-b", "", "{}"],
    "relink": ["relink", "-b", "", "--force", "{}"],
    "flatten": ["flatten", "{}"],
    "amend": ["amend", "-o", "refcount_bits=64", "{}"],
    "bitmap": ["bitmap", "--add", "{}", "b"],
    "compact": ["compact", "{}"],
    "undo": ["undo", "{}"],
    "redo": ["redo", "{}"],
    "reclaim": ["reclaim", "{}"],
}


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return small_builder(cluster_bits=12).write(tmp_path / "disk.qcow2")


def _refused(verb: str, image: Path, *flags: str) -> str:
    """The sentence of a verb that is refused, both for the plan and in earnest."""
    before = everything_in(image.parent) if image.parent.is_dir() else {}
    line = [word.replace("{}", str(image)) for word in VERBS[verb]]
    said = []
    for further in (("--dry-run",), ()):
        ended = qcowtui(*line, *flags, *further)
        assert (ended.code, ended.stdout) == (1, b"")
        text = ended.stderr.decode()
        assert text.startswith("qcowtui: ")
        assert "Traceback" not in text
        assert "Unexpected" not in text
        said.append(text)
    assert everything_in(image.parent) == before
    return said[-1]


class TestInUse:
    def test_by_a_server(self, verb: str, image: Path) -> None:
        with nbd_server(image) as server:
            said = _refused(verb, image).splitlines()
            theirs = qemu_img("snapshot", "-c", "x", image, check=False).stderr.decode()
        assert said[0].startswith(f"qcowtui: Could not open '{image}': Failed to get ")
        assert said[1] == theirs.splitlines()[1]  # Is another process using the image [...]?
        assert said[2] == f"It is open for writing by qemu-nbd (pid {server.pid})."
        assert not any("-U" in line for line in said)

    def test_by_a_reader(self, image: Path) -> None:
        with io_session(image, "-r"):
            ended = qcowtui("snapshot", "-c", "x", image)
        assert ended.code == 1
        assert b"Failed to get" in ended.stderr

    def test_force_share_only_looks(self, image: Path) -> None:
        theirs = qemu_img("snapshot", "-U", "-c", "x", image, check=False).stderr.decode()
        with nbd_server(image):
            ours = qcowtui("snapshot", "-U", "-c", "x", image)
            planned = as_json("snapshot", "-U", "-n", "-c", "x", image)
        assert ours.code == 1
        assert ours.stderr.decode().splitlines()[0] == (
            theirs.splitlines()[0].replace("qemu-img: ", "qcowtui: ")
        )
        assert planned["applied"] is False


class TestNotAnImage:
    def test_missing(self, verb: str, tmp_path: Path) -> None:
        assert "No such file or directory" in _refused(verb, tmp_path / "folder" / "no.qcow2")

    def test_a_folder(self, verb: str, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        assert "it is a directory" in _refused(verb, tmp_path / "folder")

    def test_raw(self, verb: str, tmp_path: Path) -> None:
        (tmp_path / "disk.raw").write_bytes(bytes(65536))
        assert "is a raw image; only qcow2 images can be changed." in (
            _refused(verb, tmp_path / "disk.raw")
        )

    def test_said_to_be_raw(self, verb: str, image: Path) -> None:
        assert "Only qcow2 images can be changed, not 'raw' ones" in (
            _refused(verb, image, "-f", "raw")
        )

    def test_a_header_that_makes_no_sense(self, verb: str, image: Path) -> None:
        patch(image, 20, b"\xff")
        # Going back would be a way out: it is told that there is none.
        wanted = f"nothing to {verb}" if verb in ("undo", "redo") else "cluster size"
        assert wanted in _refused(verb, image)


class TestDamaged:
    @pytest.mark.parametrize("verb", [v for v in VERBS if v not in ("undo", "redo", "commit")])
    def test_refcounts(self, verb: str, image: Path) -> None:
        table = int.from_bytes(image.read_bytes()[48:56], "big")
        block = int.from_bytes(image.read_bytes()[table : table + 8], "big")
        patch(image, block + 8, bytes(8))
        if verb in ("flatten", "rebase", "relink"):
            assert _refused(verb, image)  # each has its own reason, too
        else:
            assert "must be repaired before it is changed" in _refused(verb, image)

    def test_marked_corrupt(self, image: Path) -> None:
        patch(image, 72 + 7, b"\x02")
        assert "corrupt" in _refused("snapshot", image)


def test_the_file_may_not_be_written_to(verb: str) -> None:
    """In a process of another user where this one may write to everything."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        image = small_builder(cluster_bits=12).write(folder / "disk.qcow2")
        image.chmod(0o444)
        before = image.read_bytes()
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            line = [word.replace("{}", str(image)) for word in VERBS[verb]]
            ended = qcowtui(*line)
        finally:
            os.seteuid(user)
        assert (ended.code, ended.stdout) == (1, b"")
        assert b"Permission denied" in ended.stderr
        assert image.read_bytes() == before


class TestNoRoom:
    @pytest.mark.parametrize(
        "line", [["write", "{}", "0", "/dev/zero", "-l", "1M"], ["flatten", "{}"]], ids=" ".join
    )
    def test_in_the_file(self, line: list[str], tmp_path: Path) -> None:
        """A limit on the length of files stands for a full disk: the image stays the old one."""
        base = small_builder(cluster_bits=12, snapshot=False)
        base.write(tmp_path / "base.qcow2")
        top = small_builder(cluster_bits=12, snapshot=False)
        top.forget(0, top.geometry.clusters(top.model.virtual_size))
        top.backing("base.qcow2", "qcow2")
        image = top.write(tmp_path / "disk.qcow2")
        before, sector = contents(image), image.read_bytes()[:512]
        limit = image.stat().st_size + 8192

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done = subprocess.run(
            [sys.executable, "-m", "qcowtui", *(w.replace("{}", str(image)) for w in line)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            preexec_fn=limited,
            timeout=120,
        )
        said = done.stderr.decode()
        assert (done.returncode, done.stdout) == (1, b"")
        assert said.startswith("qcowtui: Could not ")
        assert len(said.splitlines()) == 1
        assert image.read_bytes()[:512] == sector
        assert contents(image) == before
        assert_sound(image)


class TestUsage:
    @pytest.mark.parametrize(
        "line",
        [
            ["snapshot", "-c", "x"],
            ["snapshot", "-c", "x", "-d", "y", "{}"],
            ["snapshot", "-c"],
            ["resize", "{}"],
            ["rebase", "{}"],
            ["amend", "{}"],
            ["bitmap", "{}", "b"],
            ["bitmap", "--add"],
        ],
        ids=" ".join,
    )
    def test_in_qemus_words(self, line: list[str], image: Path) -> None:
        words = [word.replace("{}", str(image)) for word in line]
        theirs = qemu_img(*words, check=False)
        ours = qcowtui(*words)
        assert (ours.code, ours.stdout) == (theirs.returncode, b"")
        assert ours.stderr.decode().splitlines()[0] == (
            theirs.stderr.decode().splitlines()[0].replace("qemu-img: ", "qcowtui: ")
        )
        assert f"qcowtui {line[0]} --help" in ours.stderr.decode()

    @pytest.mark.parametrize(
        "line",
        [
            ["resize", "{}", "nonsense"],
            ["resize", "--preallocation=foo", "{}", "1G"],
            ["commit", "{}"],
            ["rebase", "-u", "-b", "x", "-F", "foo", "{}"],
            ["amend", "-o", "cluster_size=4k", "{}"],
            ["amend", "-o", "nonsense=1", "{}"],
            ["amend", "-o", "lazy_refcounts=perhaps", "{}"],
            ["bitmap", "--remove", "{}", "nobody"],
            ["bitmap", "--add", "-g", "1000", "{}", "b"],
            ["bitmap", "--remove", "-g", "64k", "{}", "b"],
            ["bitmap", "--add", "-F", "qcow2", "{}", "b"],
            ["bitmap", "--add", "-b", "x", "{}", "b"],
        ],
        ids=" ".join,
    )
    def test_refused_in_qemus_words(self, line: list[str], image: Path) -> None:
        words = [word.replace("{}", str(image)) for word in line]
        theirs = qemu_img(*words, check=False)
        ours = qcowtui(*words)
        assert (ours.code, ours.stdout) == (theirs.returncode, b"")
        assert ours.stderr.decode().splitlines()[0] == (
            theirs.stderr.decode().splitlines()[0].replace("qemu-img: ", "qcowtui: ")
        )

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            (["snapshot", "-a", "x", "-a", "y", "{}"], "Only one snapshot can be applied"),
            (["snapshot", "-c", "x", "--keep-as", "y", "{}"], "--keep-as is only supported"),
            (["snapshot", "-c", "x", "--progress=dots", "{}"], "--progress stands alone"),
            (["snapshot", "-d", "nobody", "{}"], 'There is no snapshot "nobody"'),
            (["snapshot", "-c", "", "{}"], "A snapshot's name has 1 to"),
            (["write", "{}"], "Expecting image file name, offset"),
            (["write", "{}", "0", "/no/such/source"], "Could not read '/no/such/source'"),
            (["write", "{}", "1T", "-l", "1", "/dev/zero"], "disk"),
            (["write", "-l", "1", "{}", "0", "/dev/null"], "The input ends after 0 bytes; 1 were"),
            (["discard", "{}", "0"], "Expecting image file name, offset and length"),
            (["discard", "{}", "0", "1T"], "disk"),
            (["discard", "--zero", "--reveal-backing", "{}", "0", "1"], "contradict"),
            (["resize", "{}", "1M"], "--shrink"),
            (["commit", "-r", "1M", "{}"], "rate limit"),
            (["commit", "-b", "x", "--depth=1", "{}"], "two ways to say the same"),
            (["relink", "{}"], "Must specify backing file (-b)"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_in_our_own(self, line: list[str], said: str, image: Path) -> None:
        before = image.read_bytes()
        ended = qcowtui(*(word.replace("{}", str(image)) for word in line))
        assert (ended.code, ended.stdout) == (1, b"")
        assert said in ended.stderr.decode()
        assert image.read_bytes() == before


class TestInterrupted:
    @pytest.fixture
    def interrupts(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
        """Before which steps of the work, counted from 0, somebody presses Ctrl-C."""
        at: list[int] = []
        count = 0
        real = Editor.step

        def step(self: Editor, phase: str, done: int, total: int, unit: str = "clusters") -> None:
            nonlocal count
            count += 1
            for _ in range(at.count(count - 1)):
                signal.raise_signal(signal.SIGINT)
            real(self, phase, done, total, unit)

        monkeypatch.setattr(Editor, "step", step)
        before = signal.getsignal(signal.SIGINT)
        yield at
        assert signal.getsignal(signal.SIGINT) is before

    def test_nothing_was_changed(self, image: Path, interrupts: list[int]) -> None:
        before = image.read_bytes()
        interrupts.append(1)
        ended = qcowtui("snapshot", "-c", "x", image)
        assert (ended.code, ended.stdout) == (130, b"")
        said = ended.stderr.decode().splitlines()
        assert said[-1] == "qcowtui: Interrupted: nothing was changed."
        assert image.read_bytes() == before
        assert as_json("history", image)["entries"] == []

    def test_a_dry_run(self, image: Path, interrupts: list[int]) -> None:
        interrupts.append(0)
        ended = qcowtui("snapshot", "-c", "x", "-n", "-q", image)
        assert (ended.code, ended.stdout) == (130, b"")
        assert ended.stderr == b"qcowtui: Interrupted: nothing was changed.\n"

    def test_between_two_actions(self, image: Path, interrupts: list[int]) -> None:
        as_text("bitmap", "-q", "--add", image, "probe")  # how many steps one action has
        interrupts.append(4)
        ended = qcowtui("bitmap", "--clear", "--disable", "--enable", image, "probe")
        assert ended.code == 130
        assert b"A part of the work was done before." in ended.stderr
        assert b"`qcowtui history" in ended.stderr
        assert_sound(image)

    def test_twice_ends_at_once(self, image: Path, interrupts: list[int]) -> None:
        interrupts.extend([1, 1])
        ended = qcowtui("snapshot", "-c", "x", image)
        assert ended.code == 130
        assert b"Interrupted at once. The image is whole" in ended.stderr
        assert_sound(image)


def test_a_plan_beside_an_unfinished_change(image: Path) -> None:
    """Its journal may have half of the header in it, so that no plan would be true."""
    image.with_name(image.name + ".qcowtui-journal").write_bytes(b"not yet read")
    before = everything_in(image.parent)
    ended = qcowtui("snapshot", "-c", "x", "--dry-run", image)
    assert (ended.code, ended.stdout) == (1, b"")
    assert b"A change of this image was not finished" in ended.stderr
    assert everything_in(image.parent) == before
