"""The journal's format, its file, and who is trusted."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from pathlib import Path

import pytest

from qcow.edit.folder import LocalFolder
from qcow.edit.journal import MAX_BYTES, Journal, decode, encode, identity_of, journal_patch
from qcow.edit.journal_place import SUFFIX, JournalPlace, pending, places_of
from qcow.edit.journal_switch import Outcome, RecoveryResult, recover, switch_through_journal
from qcow.edit.patch import Patch, reversed_switch, sector_pieces
from qcow.errors import ChangedError, EditRefused, FormatError, IndeterminateError, StorageError
from qcow.storage.memory import MemoryStorage
from qcow.storage.writable import open_local_writable

RNG = random.Random(3)
OLD = RNG.randbytes(16384)
SPOTS = ((0, 1400), (4096, 592), (9000, 2048))


def patches_for(old: bytes, spots: tuple[tuple[int, int], ...] = SPOTS) -> list[Patch]:
    rng = random.Random(5)
    return [Patch(at, old[at : at + size], rng.randbytes(size)) for at, size in spots]


def patched(old: bytes, patches: list[Patch]) -> bytes:
    data = bytearray(old)
    for patch in patches:
        data[patch.offset : patch.end] = patch.after
    return bytes(data)


def journal_for(old: bytes, patches: list[Patch], *, secret: bool = False, inode: int = 0) -> bytes:
    kept = tuple(journal_patch(patch, secret=secret) for patch in patches)
    identity = identity_of(MemoryStorage(old), patches)
    return encode(
        Journal(b"t" * 16, identity, (1, inode), 99, b"/a/b\xff", "an action", False, kept)
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.img"
    path.write_bytes(OLD)
    return path


def leave_journal(image: Path, patches: list[Patch], **kept: bool) -> Path:
    """A committed journal whose patches were not made."""
    path = Path(f"{image}{SUFFIX}")
    path.write_bytes(journal_for(OLD, patches, inode=image.stat().st_ino, **kept))
    path.chmod(0o600)
    return path


def recovered(image: Path, *, accept_copy: bool = False) -> RecoveryResult:
    with open_local_writable(image) as storage:
        return recover(storage, places_of(str(image))[0], accept_copy=accept_copy)


class TestPatch:
    def test_a_patch_keeps_the_length(self) -> None:
        for offset, before, after in ((0, b"a", b"ab"), (0, b"", b""), (-1, b"a", b"b")):
            with pytest.raises(ValueError, match="no patch"):
                Patch(offset, before, after)

    def test_reversed(self) -> None:
        assert reversed_switch([Patch(3, b"ab", b"cd")]) == (Patch(3, b"cd", b"ab"),)

    def test_pieces_end_where_sectors_end(self) -> None:
        assert [(p.start, p.stop) for p in sector_pieces(500, 600)] == [
            (0, 12),
            (12, 524),
            (524, 600),
        ]


class TestFormat:
    @pytest.mark.parametrize("secret", [False, True])
    def test_what_was_written_is_read(self, secret: bool) -> None:
        patches = patches_for(OLD)
        journal = decode(journal_for(OLD, patches, secret=secret, inode=5))
        assert journal.txid == b"t" * 16
        assert journal.file == (1, 5)
        assert journal.path == b"/a/b\xff"
        assert journal.action == "an action"
        assert [(p.offset, p.after) for p in journal.patches] == [
            (p.offset, p.after) for p in patches
        ]
        befores = [None if secret else p.before for p in patches]
        assert [p.before for p in journal.patches] == befores

    def test_a_secret_is_not_in_the_file(self) -> None:
        patches = patches_for(OLD)
        data = journal_for(OLD, patches, secret=True)
        assert not any(patch.before[:16] in data for patch in patches)
        assert all(patch.after in data for patch in patches)

    @pytest.mark.parametrize("secret", [False, True])
    def test_a_flipped_bit_is_noticed(self, secret: bool) -> None:
        data = journal_for(OLD, patches_for(OLD), secret=secret)
        for at in (*range(64), *range(0, len(data), 97)):
            flipped = bytearray(data)
            flipped[at] ^= 0x40
            with pytest.raises(FormatError):
                decode(bytes(flipped))

    def test_a_part_or_more_is_noticed(self) -> None:
        data = journal_for(OLD, patches_for(OLD))
        for length in (*range(70), *range(70, len(data), 211)):
            with pytest.raises(FormatError):
                decode(data[:length])
        with pytest.raises(FormatError):
            decode(data + b"\0")
        with pytest.raises(FormatError, match="too long"):
            decode(bytes(MAX_BYTES + 1))

    def test_lengths_are_not_trusted_even_with_a_good_checksum(self) -> None:
        data = journal_for(OLD, patches_for(OLD))
        body = bytearray(data[64:])
        refused = 0
        for at in range(32, 200):
            forged = bytearray(body)
            forged[at] ^= 0xFF
            head = data[:32] + hashlib.sha256(data[8:24] + bytes(forged)).digest()
            try:
                decode(head + bytes(forged))
            except FormatError:
                refused += 1
        assert refused > 20

    def test_too_large_a_change_is_no_journal(self) -> None:
        big = bytes(MAX_BYTES // 2)
        with pytest.raises(ValueError, match="too long"):
            journal_for(big, [Patch(0, big, big)])


class TestFile:
    def test_a_switch_changes_the_image_and_leaves_nothing(self, image: Path) -> None:
        patches = patches_for(OLD)
        with open_local_writable(image) as storage:
            place = places_of(str(image))[0]
            txid = switch_through_journal(storage, place, patches, "test")
        assert len(txid) == 16
        assert image.read_bytes() == patched(OLD, patches)
        assert os.listdir(image.parent) == ["a.img"]

    def test_the_order_of_the_patches_does_not_matter(self, image: Path) -> None:
        patches = patches_for(OLD)
        with open_local_writable(image) as storage:
            switch_through_journal(storage, places_of(str(image))[0], patches[::-1], "test")
        assert image.read_bytes() == patched(OLD, patches)

    def test_patches_that_overlap_are_an_error(self, image: Path) -> None:
        patches = [Patch(0, OLD[:9], bytes(9)), Patch(8, OLD[8:10], bytes(2))]
        with open_local_writable(image) as storage, pytest.raises(ValueError, match="overlap"):
            switch_through_journal(storage, places_of(str(image))[0], patches, "test")

    def test_an_image_that_changed_is_left_alone(self, image: Path) -> None:
        patches = [Patch(600, bytes(8), b"new text")]
        with open_local_writable(image) as storage, pytest.raises(ChangedError):
            switch_through_journal(storage, places_of(str(image))[0], patches, "test")
        assert image.read_bytes() == OLD
        assert os.listdir(image.parent) == ["a.img"]

    def test_a_journal_is_not_overwritten(self, image: Path) -> None:
        waiting = leave_journal(image, patches_for(OLD))
        content = waiting.read_bytes()
        with open_local_writable(image) as storage, pytest.raises(EditRefused, match="in the way"):
            switch_through_journal(
                storage, places_of(str(image))[0], patches_for(OLD, ((9, 9),)), "test"
            )
        assert (image.read_bytes(), waiting.read_bytes()) == (OLD, content)

    def test_an_image_with_two_names_is_refused(self, image: Path) -> None:
        os.link(image, image.with_name("b.img"))
        with open_local_writable(image) as storage, pytest.raises(EditRefused, match="2 names"):
            switch_through_journal(storage, places_of(str(image))[0], patches_for(OLD), "test")

    def test_the_journal_is_private(self, image: Path, tmp_path: Path) -> None:
        folder = LocalFolder(str(tmp_path))
        usual = os.umask(0)
        try:
            folder.create("j", b"text")
        finally:
            os.umask(usual)
        assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o600
        with pytest.raises(StorageError, match="exists"):
            folder.create("j", b"other")
        (tmp_path / "link").symlink_to(image)
        with pytest.raises(StorageError, match="exists"):
            folder.create("link", b"other")
        assert image.read_bytes() == OLD

    def test_recovery_rolls_forward(self, image: Path) -> None:
        patches = patches_for(OLD)
        leave_journal(image, patches)
        result = recovered(image)
        assert (result.outcome, result.action) == (Outcome.ROLLED_FORWARD, "an action")
        assert image.read_bytes() == patched(OLD, patches)
        assert os.listdir(image.parent) == ["a.img"]
        assert recovered(image).outcome is Outcome.NOTHING

    def test_a_secret_rolls_forward(self, image: Path) -> None:
        patches = patches_for(OLD)
        leave_journal(image, patches, secret=True)
        assert recovered(image).outcome is Outcome.ROLLED_FORWARD
        assert image.read_bytes() == patched(OLD, patches)

    def test_one_that_was_never_finished_is_discarded(self, image: Path) -> None:
        Path(f"{image}{SUFFIX}.new").write_bytes(journal_for(OLD, patches_for(OLD))[:700])
        assert recovered(image).outcome is Outcome.DISCARDED
        assert os.listdir(image.parent) == ["a.img"]
        assert image.read_bytes() == OLD

    @pytest.mark.parametrize("secret", [False, True])
    @pytest.mark.parametrize("at", [1500, 0, 700, 4100, 4687, 9000, 9001, 11047])
    def test_a_foreign_change_is_refused(self, image: Path, at: int, secret: bool) -> None:
        journal = leave_journal(image, patches_for(OLD), secret=secret)
        data = bytearray(OLD)
        data[at] ^= 1
        image.write_bytes(data)
        result = recovered(image)
        assert result.outcome is Outcome.REFUSED
        assert "another program" in result.reason
        assert image.read_bytes() == data
        assert journal.exists()

    def test_a_change_of_the_length_is_refused(self, image: Path) -> None:
        leave_journal(image, patches_for(OLD))
        for size in (len(OLD) + 512, 10000):
            os.truncate(image, size)
            assert recovered(image).outcome is Outcome.REFUSED

    def test_a_copy_is_refused_unless_accepted(self, image: Path) -> None:
        patches = patches_for(OLD)
        journal = leave_journal(image, patches)
        copy = image.with_name("copy.img")
        copy.write_bytes(OLD)
        journal.rename(f"{copy}{SUFFIX}")
        result = recovered(copy)
        assert result.outcome is Outcome.REFUSED
        assert "another file" in result.reason
        assert recovered(copy, accept_copy=True).outcome is Outcome.ROLLED_FORWARD
        assert copy.read_bytes() == patched(OLD, patches)

    def test_a_damaged_one_is_kept_and_not_used(self, image: Path) -> None:
        journal = leave_journal(image, patches_for(OLD))
        data = bytearray(journal.read_bytes())
        for at in range(0, len(data), 97):
            data[at] ^= 0x40
            journal.write_bytes(data)
            data[at] ^= 0x40
            assert recovered(image).outcome is Outcome.REFUSED
            assert image.read_bytes() == OLD
        assert journal.exists()

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            ("symlink", "regular"),
            ("fifo", "regular"),
            ("folder", "regular"),
            ("hard link", "second name"),
            ("group", "others may write"),
            ("world", "others may write"),
            ("owner", "another user"),
            ("large", "larger than"),
        ],
    )
    def test_whom_it_comes_from_matters(
        self, image: Path, spoil: str, words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = leave_journal(image, patches_for(OLD))
        other = journal.with_name("other")
        if spoil in ("symlink", "fifo", "folder"):
            journal.rename(other)
        if spoil == "symlink":
            journal.symlink_to(other)
        elif spoil == "fifo":
            os.mkfifo(journal)
        elif spoil == "folder":
            journal.mkdir()
        elif spoil == "hard link":
            os.link(journal, other)
        elif spoil == "owner":
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
        elif spoil == "large":
            os.truncate(journal, MAX_BYTES + 1)
        else:
            journal.chmod(0o620 if spoil == "group" else 0o602)
        result = recovered(image)
        assert result.outcome is Outcome.REFUSED
        assert words in result.reason
        assert image.read_bytes() == OLD
        assert os.path.lexists(journal)


class TestPlace:
    def test_a_reader_is_told_and_touches_nothing(self, image: Path) -> None:
        assert pending(str(image)) is None
        journal = leave_journal(image, patches_for(OLD))
        content = journal.read_bytes()
        found = pending(str(image))
        assert found is not None
        assert found.code == "QCOW-JOURNAL-PENDING"
        assert str(journal) in found.what
        assert (image.read_bytes(), journal.read_bytes()) == (OLD, content)

    def test_nothing_waits_for_what_is_not_there(self, tmp_path: Path) -> None:
        assert pending(str(tmp_path / "none")) is None

    def test_a_link_leads_to_the_same_journal(self, image: Path, tmp_path: Path) -> None:
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "link").symlink_to(image)
        leave_journal(image, patches_for(OLD))
        assert pending(str(tmp_path / "d" / "link")) is not None

    def test_a_given_folder(self, image: Path, tmp_path: Path) -> None:
        patches = patches_for(OLD)
        apart = tmp_path / "apart"
        apart.mkdir()
        place = places_of(str(image), str(apart))[0]
        place.folder.create(place.name, journal_for(OLD, patches, inode=image.stat().st_ino))
        assert pending(str(image)) is None
        assert pending(str(image), str(apart)) is not None
        with open_local_writable(image) as storage:
            assert recover(storage, place).outcome is Outcome.ROLLED_FORWARD
        assert image.read_bytes() == patched(OLD, patches)

    def test_a_read_only_folder_uses_the_state_folder(
        self, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        place, other = places_of(str(image))
        assert other.name == "a.img.qcowtui-journal"
        with open_local_writable(image) as storage:
            switch_through_journal(storage, place, patches_for(OLD), "test")
        made = tmp_path / "state" / "qcowtui" / "journal"
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert os.listdir(made) == []

    def test_a_long_name(self, tmp_path: Path) -> None:
        image = tmp_path / ("n" * 250)
        image.write_bytes(OLD)
        patches = patches_for(OLD)
        with open_local_writable(image) as storage:
            switch_through_journal(storage, places_of(str(image))[0], patches, "test")
        assert image.read_bytes() == patched(OLD, patches)

    def test_a_device_is_not_bound_to_an_inode(self, image: Path) -> None:
        patches = patches_for(OLD)
        leave_journal(image, patches)
        beside = places_of(str(image))[0]
        place = JournalPlace(beside.folder, beside.name, bound_to_inode=False)
        copy = image.with_name("dev")
        copy.write_bytes(OLD)
        with open_local_writable(copy) as storage:
            assert recover(storage, place).outcome is Outcome.ROLLED_FORWARD
        assert copy.read_bytes() == patched(OLD, patches)


def test_an_error_after_the_commit_point_is_indeterminate(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = patches_for(OLD)
    with open_local_writable(image) as storage:

        def fail(offset: int, data: bytes) -> None:
            raise StorageError("Could not write: Input/output error")

        monkeypatch.setattr(storage, "write", fail)
        with pytest.raises(IndeterminateError, match="completed when the image is next opened"):
            switch_through_journal(storage, places_of(str(image))[0], patches, "test")
    assert recovered(image).outcome is Outcome.ROLLED_FORWARD
    assert image.read_bytes() == patched(OLD, patches)
