"""The gate: which second files may be opened, and that nothing else ever is."""

from __future__ import annotations

import os
import random
import string
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from qcow.errors import ReferenceMissing, ReferenceRefused, StorageError
from qcow.storage.gate import Gate, combine, has_protocol, list_candidates, resolve
from qcow.storage.local import LocalFile, open_local
from qcow.storage.memory import MemoryStorage
from tests.support.devices import loop_device
from tests.support.opens import opened_files
from tests.support.qemu import parsed, qemu_img

NEVER = "--follow does not change that"
ASK = "--follow allows it"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """images/{top,base,deep/base}.qcow2 and, outside of it, secret."""
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    (images / "top.qcow2").write_bytes(b"top")
    (images / "base.qcow2").write_bytes(b"base")
    (images / "deep" / "base.qcow2").write_bytes(b"deep")
    (tmp_path / "secret").write_bytes(b"TOP-SECRET")
    return images


@pytest.fixture
def top(folder: Path) -> LocalFile:
    return open_local(folder / "top.qcow2")


def follow(gate: Gate, top: LocalFile, name: bytes, fmt: bytes | None = b"qcow2") -> bytes:
    """What stands in the backing file ``name``; checks that ``why_not`` agrees."""
    with opened_files() as opened:
        sentence = gate.why_not(top, name, fmt, "backing file")
    assert opened.paths == []
    said: str | None = None
    try:
        with gate.open_reference(top, name, fmt, "backing file") as file:
            return file.read(0, 100)
    except ReferenceRefused as refused:
        said = str(refused)
        raise
    finally:
        assert said == sentence


def refused(gate: Gate, top: LocalFile, name: bytes, fmt: bytes | None = b"qcow2") -> str:
    """The sentence it is refused with; checks that nothing at all was opened."""
    with opened_files() as opened, pytest.raises(ReferenceRefused) as caught:
        follow(gate, top, name, fmt)
    assert opened.paths == []
    return str(caught.value)


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [b"json:{}", b"nbd:unix:/x", b"nbd://host/x", b"file:base", b"a:b", b":", b"http://h/x"],
    )
    def test_protocols(self, top: LocalFile, name: bytes) -> None:
        assert has_protocol(name)
        for gate in every_gate(top):
            assert NEVER in refused(gate, top, name)
        with pytest.raises(ReferenceRefused):
            resolve("/images/top", name)

    @pytest.mark.parametrize("name", [b"./a:b", b"/a:b", b"deep/a:b", b"ab", b"", b"a/"])
    def test_no_protocols(self, name: bytes) -> None:
        assert not has_protocol(name)

    @pytest.mark.parametrize(
        "name",
        [
            b"",
            b"base.qcow2\0.txt",
            b"base\n.qcow2",
            b"\x1b[31mbase",
            b"a\x7f",
            b"x\x1b]52;c;bQ==\x07",
        ],
    )
    def test_hostile_bytes(self, top: LocalFile, name: bytes) -> None:
        for gate in every_gate(top):
            sentence = refused(gate, top, name)
            assert NEVER in sentence
            assert sentence.isprintable()

    def test_markup_and_bidi_are_just_text(self, folder: Path, top: LocalFile) -> None:
        for name in ("[bold]base", "good\u202egnp.exe", "=cmd|'!A0", "-o,locking=off"):
            (folder / name).write_bytes(name.encode())
            assert follow(Gate.own_folder(), top, name.encode()) == name.encode()
            assert "\u202e" not in refused(Gate.closed(), top, name.encode())

    def test_bytes_that_are_no_text(self, folder: Path, top: LocalFile) -> None:
        name = b"b\xff\xfe"
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"odd")
        assert follow(Gate.own_folder(), top, name) == b"odd"
        assert "b\\xff\\xfe" in refused(Gate.closed(), top, name)

    def test_a_name_longer_than_a_path(self, top: LocalFile) -> None:
        for name in (b"a" * 1023, b"a/" * 4000):
            with pytest.raises(ReferenceMissing):
                follow(Gate.follow(), top, name)

    @pytest.mark.parametrize(
        ("containing", "name", "path"),
        [
            ("/images/top.qcow2", b"base", "/images/base"),
            ("top.qcow2", b"base", "base"),
            ("./top.qcow2", b"base", "./base"),
            ("a/../b//top.qcow2", b"../base", "a/../b//../base"),
            ("/top", b"base", "/base"),
            ("a/top", b"/base", "/base"),
            ("a/top", b"./b:c", "a/./b:c"),
        ],
    )
    def test_resolve(self, containing: str, name: bytes, path: str) -> None:
        assert resolve(containing, name) == combine(containing, name) == path

    @pytest.mark.oracle
    def test_combined_as_qemu_does(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "one" / "two").mkdir(parents=True)
        (tmp_path / "link").symlink_to("one/two")
        monkeypatch.chdir(tmp_path / "one")
        chance = random.Random(3)
        places = ["", "./", "two/", "../", "../one/two//", f"{tmp_path}/", "../link/", "two/../"]
        names = ["base", "./base", "../base", "/base", "a/b", "../../x/y", "nbd://h/x", "./a:b"]
        for _ in range(4):
            names.append("".join(chance.choices(string.ascii_letters + "./", k=8)) + "x")
        for place in places:
            for name in names:
                image = f"{place}top.qcow2"
                qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", image, "1M")
                info = dict(parsed(qemu_img("info", "--output=json", image).stdout))
                assert combine(image, name.encode()) == info["full-backing-filename"]


def every_gate(top: LocalFile) -> list[Gate]:
    assert top.path
    return [
        Gate.closed(),
        Gate.own_folder(),
        Gate.trusting([os.path.dirname(top.path)]),
        Gate.follow(),
    ]


class TestClosed:
    def test_nothing_passes(self, folder: Path, top: LocalFile) -> None:
        for name in (b"base.qcow2", bytes(folder / "base.qcow2"), b"/etc/passwd", b"nothing"):
            sentence = refused(Gate.closed(), top, name)
            assert ASK in sentence
            assert name.decode() in sentence
            assert sentence.startswith("The backing file '")

    def test_the_file_system_is_not_even_asked(
        self, top: LocalFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*given: object, **options: object) -> os.stat_result:
            raise AssertionError("a closed gate looked at a file")

        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", never)
            patch.setattr(os, "lstat", never)
            sentence = Gate.closed().why_not(top, b"base.qcow2", b"qcow2", "data file")
        assert sentence is not None
        assert sentence.startswith("The data file 'base.qcow2' is not opened")


class TestOwnFolder:
    @pytest.mark.parametrize(
        "spelling",
        [
            "base.qcow2",
            "./base.qcow2",
            "deep/../base.qcow2",
            "../images/base.qcow2",
            "{}/base.qcow2",
        ],
    )
    def test_beside_the_image(self, folder: Path, top: LocalFile, spelling: str) -> None:
        assert follow(Gate.own_folder(), top, spelling.format(folder).encode()) == b"base"

    def test_below_the_image(self, top: LocalFile) -> None:
        assert follow(Gate.own_folder(), top, b"deep/base.qcow2") == b"deep"

    def test_the_result_is_named_as_qemu_names_it(self, folder: Path, top: LocalFile) -> None:
        gate = Gate.own_folder()
        with gate.open_reference(top, b"deep/base.qcow2", b"qcow2", "backing file") as deep:
            assert deep.name == deep.path == f"{folder}/deep/base.qcow2"
            assert deep.identity() == open_local(folder / "deep/base.qcow2").identity()
            # The next reference starts from there; what was inside for the image above is not now.
            assert ASK in refused(gate, deep, b"../base.qcow2")

    def test_relative_to_the_working_folder(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        with open_local("top.qcow2") as top:
            assert follow(Gate.own_folder(), top, b"base.qcow2") == b"base"
            assert ASK in refused(Gate.own_folder(), top, b"../secret")
        monkeypatch.chdir(folder / "deep")
        with open_local("../top.qcow2") as top:
            assert follow(Gate.own_folder(), top, b"base.qcow2") == b"base"

    @pytest.mark.parametrize(
        "name", ["../secret", "{}/secret", "/etc/hostname", "deep/../../secret", "/", ".."]
    )
    def test_outside(self, folder: Path, top: LocalFile, name: str) -> None:
        sentence = refused(Gate.own_folder(), top, name.format(folder.parent).encode())
        assert ASK in sentence
        assert "own folder" in sentence

    def test_nobody_learns_what_exists_outside(self, folder: Path, top: LocalFile) -> None:
        there = refused(Gate.own_folder(), top, b"../secret")
        absent = refused(Gate.own_folder(), top, b"../absent")
        assert there.replace("secret", "absent") == absent
        assert "own folder" in refused(Gate.own_folder(), top, b"../absent/../../x")

    def test_a_folder_that_begins_alike_is_outside(self, folder: Path, top: LocalFile) -> None:
        (folder.parent / "images2").mkdir()
        (folder.parent / "images2" / "base").write_bytes(b"x")
        assert "own folder" in refused(Gate.own_folder(), top, b"../images2/base")

    def test_links(self, folder: Path, top: LocalFile) -> None:
        (folder / "inside").symlink_to("deep/base.qcow2")
        (folder / "outside").symlink_to("../secret")
        (folder / "up").symlink_to("..")
        (folder / "again").symlink_to("outside")
        (folder / "back").symlink_to(folder.parent / "door")
        (folder.parent / "door").symlink_to("images/base.qcow2")
        gate = Gate.own_folder()
        assert follow(gate, top, b"inside") == b"deep"
        assert follow(gate, top, b"up/images/base.qcow2") == b"base"
        assert follow(gate, top, b"back") == b"base"
        for name in (b"outside", b"up/secret", b"again", b"deep/../outside"):
            assert "own folder" in refused(gate, top, name)

    def test_an_image_opened_through_a_link(self, folder: Path, tmp_path: Path) -> None:
        # As QEMU does, names are looked for where the user found the image.
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "top.qcow2").symlink_to(folder / "top.qcow2")
        (elsewhere / "base.qcow2").write_bytes(b"other")
        (tmp_path / "alias").symlink_to("images")
        with open_local(elsewhere / "top.qcow2") as top:
            assert follow(Gate.own_folder(), top, b"base.qcow2") == b"other"
        with open_local(tmp_path / "alias" / "top.qcow2") as top:
            assert follow(Gate.own_folder(), top, b"base.qcow2") == b"base"
            assert follow(Gate.own_folder(), top, bytes(folder / "base.qcow2")) == b"base"

    @pytest.mark.parametrize("fmt", [None, b""])
    def test_the_format_must_be_stated(self, top: LocalFile, fmt: bytes | None) -> None:
        sentence = refused(Gate.own_folder(), top, b"base.qcow2", fmt)
        assert ASK in sentence
        assert "format" in sentence

    def test_a_data_file_needs_the_explicit_grant(self, folder: Path, top: LocalFile) -> None:
        with pytest.raises(ReferenceRefused, match=f"The data file 'base.qcow2' .*{ASK}"):
            Gate.own_folder().open_reference(top, b"base.qcow2", b"raw", "data file")
        with Gate.follow().open_reference(top, b"base.qcow2", b"raw", "data file") as file:
            assert file.read(0, 9) == b"base"

    def test_missing(self, folder: Path, top: LocalFile) -> None:
        (folder / "dangling").symlink_to("nothing")
        (folder / "loop").symlink_to("loop")
        for name, why in (
            ("nothing", "No such file or directory"),
            ("dangling", "No such file or directory"),
            ("loop", "Too many levels of symbolic links"),
            ("base.qcow2/", "Not a directory"),
            ("base.qcow2/../base.qcow2", "Not a directory"),
            ("BASE.qcow2", "No such file or directory"),
        ):
            with pytest.raises(ReferenceMissing) as caught:
                follow(Gate.own_folder(), top, name.encode())
            assert str(caught.value) == (
                f"Could not open the backing file '{folder}/{name}': {why}."
            )

    def test_an_image_without_a_place(self) -> None:
        for gate in (Gate.own_folder(), Gate.follow()):
            with pytest.raises(ReferenceRefused, match=NEVER):
                gate.open_reference(MemoryStorage(b""), b"base", b"qcow2", "backing file")

    def test_an_image_opened_by_its_descriptor(self, folder: Path, top: LocalFile) -> None:
        # Its "folder" is one of the kernel: nothing counts as beside it.
        with open_local(f"/dev/fd/{top.fileno()}") as same:
            assert same.identity() == top.identity()
            assert "own folder" in refused(Gate.own_folder(), same, bytes(folder / "base.qcow2"))
            assert NEVER in refused(Gate.own_folder(), same, b"base.qcow2")


class TestOddFiles:
    @pytest.mark.parametrize(
        ("make", "word"),
        [
            (os.mkfifo, "a FIFO"),
            (lambda path: path.mkdir(), "a directory"),
            (lambda path: path.symlink_to("/dev/zero"), "a character device"),
        ],
    )
    def test_never(
        self, folder: Path, top: LocalFile, make: Callable[[Path], None], word: str
    ) -> None:
        make(folder / "odd")
        gates = [Gate.follow()]
        if word != "a character device":  # which lies outside
            gates += [Gate.own_folder(), Gate.trusting([folder])]
        for gate in gates:
            sentence = refused(gate, top, b"odd")
            assert word in sentence
            assert NEVER in sentence

    @pytest.mark.parametrize(
        "name",
        [
            "/proc/self/environ",
            "/proc/kcore",
            "/sys/kernel/uevent_seqnum",
            "//proc/self/maps",
            "/dev/../proc/version",
            "/dev/fd/0",
            "/dev/stdin",
            "{}/tokernel/version",
            "/proc",
        ],
    )
    def test_files_of_the_kernel(self, folder: Path, top: LocalFile, name: str) -> None:
        (folder / "tokernel").symlink_to("/proc")
        for gate in (Gate.own_folder(), Gate.trusting(["/"]), Gate.follow()):
            sentence = refused(gate, top, name.format(folder).encode())
            assert "kernel" in sentence
            assert NEVER in sentence

    def test_block_devices_only_with_follow(self, top: LocalFile, tmp_path: Path) -> None:
        disk = tmp_path / "images" / "disk.raw"
        disk.write_bytes(b"device" + bytes((1 << 20) - 6))
        with loop_device(disk) as device:
            name = bytes(device)
            for gate in (Gate.trusting([device.parent]), Gate.trusting(["/"])):
                assert "block device" in refused(gate, top, name, b"raw")
            with Gate.follow().open_reference(top, name, b"raw", "backing file") as file:
                assert file.is_device
                assert file.read(0, 6) == b"device"


class TestFollow:
    def test_anything_local(self, folder: Path, top: LocalFile) -> None:
        (folder / "outside").symlink_to("../secret")
        for name in (b"../secret", bytes(folder.parent / "secret"), b"outside"):
            assert follow(Gate.follow(), top, name, None) == b"TOP-SECRET"

    def test_exactly_one_file_is_opened(self, folder: Path, top: LocalFile) -> None:
        with opened_files() as opened:
            follow(Gate.follow(), top, b"../secret")
        assert opened.names() == ["secret"]


class TestTrusting:
    def test_inside_only(self, folder: Path, top: LocalFile, tmp_path: Path) -> None:
        pool = tmp_path / "pool"
        (pool / "sub").mkdir(parents=True)
        (pool / "sub" / "base").write_bytes(b"pool")
        (pool / "escape").symlink_to("../secret")
        (tmp_path / "alias").symlink_to("pool")
        for gate in (Gate.trusting([pool]), Gate.trusting(["/nowhere", tmp_path / "alias"])):
            assert follow(gate, top, b"../pool/sub/base", None) == b"pool"
            assert follow(gate, top, bytes(tmp_path / "alias/sub/base")) == b"pool"
            for name in (b"../secret", b"base.qcow2", b"../pool/escape"):
                assert "trust" in refused(gate, top, name)

    def test_a_relative_folder_stays_the_one_that_was_granted(
        self, folder: Path, top: LocalFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        gate = Gate.trusting(["deep"])
        monkeypatch.chdir("/")
        assert follow(gate, top, b"deep/base.qcow2") == b"deep"
        assert "trust" in refused(gate, top, b"base.qcow2")

    def test_none(self, top: LocalFile) -> None:
        assert "trust" in refused(Gate.trusting([]), top, b"base.qcow2")


class TestSwaps:
    """Between the judgement and the opening somebody exchanges what was judged."""

    def swap(self, monkeypatch: pytest.MonkeyPatch, exchange: Callable[[], object]) -> None:
        real = os.open
        done: list[bool] = []

        def opening(*given: object, **options: object) -> int:
            if not done:
                done.append(True)
                exchange()
            return real(*given, **options)  # type: ignore[arg-type]

        monkeypatch.setattr("qcow.storage.gate.os.open", opening)

    @pytest.mark.parametrize("gate", [Gate.own_folder(), Gate.follow()])
    def test_the_file_for_a_link(
        self, folder: Path, top: LocalFile, monkeypatch: pytest.MonkeyPatch, gate: Gate
    ) -> None:
        base = folder / "base.qcow2"

        def exchange() -> None:
            base.unlink()
            base.symlink_to("../secret")

        self.swap(monkeypatch, exchange)
        with pytest.raises(ReferenceRefused, match="exchanged"):
            gate.open_reference(top, b"base.qcow2", b"qcow2", "backing file")

    def test_a_folder_on_the_way_for_a_link(
        self, folder: Path, top: LocalFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder.parent / "base.qcow2").write_bytes(b"TOP-SECRET")

        def exchange() -> None:
            (folder / "deep").rename(folder / "gone")
            (folder / "deep").symlink_to("..")

        self.swap(monkeypatch, exchange)
        with pytest.raises(ReferenceRefused, match="exchanged"):
            Gate.own_folder().open_reference(top, b"deep/base.qcow2", b"qcow2", "backing file")

    def test_the_file_for_a_fifo(
        self, folder: Path, top: LocalFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def exchange() -> None:
            (folder / "base.qcow2").unlink()
            os.mkfifo(folder / "base.qcow2")

        self.swap(monkeypatch, exchange)
        with pytest.raises(ReferenceRefused, match="exchanged"):
            Gate.own_folder().open_reference(top, b"base.qcow2", b"qcow2", "backing file")

    def test_the_file_for_a_device(
        self, folder: Path, top: LocalFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with ExitStack() as swapped:
            pretended = loop_device(folder / "base.qcow2", real=False)
            self.swap(monkeypatch, lambda: swapped.enter_context(pretended))
            with pytest.raises(ReferenceRefused, match="exchanged"):
                Gate.own_folder().open_reference(top, b"base.qcow2", b"qcow2", "backing file")

    def test_the_file_removed(
        self, folder: Path, top: LocalFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.swap(monkeypatch, (folder / "base.qcow2").unlink)
        with pytest.raises(ReferenceMissing, match="No such file"):
            Gate.own_folder().open_reference(top, b"base.qcow2", b"qcow2", "backing file")

    def test_no_descriptor_is_left_behind(
        self, folder: Path, top: LocalFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = len(os.listdir("/proc/self/fd"))
        self.test_the_file_for_a_fifo(folder, top, monkeypatch)
        assert len(os.listdir("/proc/self/fd")) == before


class TestListing:
    def test_regular_files_by_name_and_none_opened(self, folder: Path) -> None:
        os.mkfifo(folder / "fifo")
        (folder / "link").symlink_to("base.qcow2")
        (folder / "todevice").symlink_to("/dev/zero")
        (folder / "loop").symlink_to("loop")
        (folder / "Another").write_bytes(b"")
        with opened_files() as opened:
            plain = list_candidates(folder, 100)
            linked = list_candidates(folder, 100, follow_links=True)
        assert opened.paths == []
        assert plain == [f"{folder}/{name}" for name in ("Another", "base.qcow2", "top.qcow2")]
        assert linked == sorted([*plain, f"{folder}/link"])

    def test_at_most_as_many_as_wanted(self, tmp_path: Path) -> None:
        for number in range(20):
            (tmp_path / f"{number:02}").write_bytes(b"")
        found = list_candidates(tmp_path, 7)
        assert len(found) == 7
        assert found == sorted(found)
        assert list_candidates(tmp_path, 0) == []
        assert len(list_candidates(str(tmp_path), 20)) == 20

    def test_what_cannot_be_listed(self, tmp_path: Path) -> None:
        (tmp_path / "file\x1b").write_bytes(b"")
        with pytest.raises(StorageError, match=r"Could not list '.*/file\\x1b': Not a directory"):
            list_candidates(tmp_path / "file\x1b", 5)
        with pytest.raises(StorageError, match="no file name"):
            list_candidates("a\0b", 5)
