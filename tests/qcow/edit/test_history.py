"""The undo history: what can be undone, what is held for it, and when it is worthless."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow.edit.archive import MAX_HEADERS, archive_header, archived_headers
from qcow.edit.folder import LocalFolder, state_folder
from qcow.edit.history import History, unusual_mtime, when
from qcow.edit.history_entry import Entry, mark_of
from qcow.edit.history_file import MAX_ENTRIES, MAX_NOTES, Subject, file_name, subject_of
from qcow.edit.patch import SECTOR, Patch, is_at, reversed_switch
from qcow.errors import EditRefused, StorageError
from qcow.storage.base import Storage, WritableStorage
from qcow.storage.writable import open_local_writable

from .journal_world import World, WorldFolder, WorldStorage

#: The clusters in use: for these tests the bytes from 512 to 1024.
USED = slice(512, 1024)


def generation_of(storage: Storage) -> Callable[[], bytes]:
    return lambda: hashlib.sha256(storage.read(USED.start, SECTOR)).digest()


def sector(number: int) -> bytes:
    return random.Random(number).randbytes(SECTOR)


def image_bytes(number: int = 0) -> bytes:
    """State ``number`` of the image: sector 0 differs, and so does a sector it has journaled."""
    return sector(number) + sector(1000) + bytes(3072) + sector(number)


def entry(number: int, used: bytes = sector(1000)) -> Entry:
    """The change from state ``number`` - 1 to ``number``."""
    old, new = sector(number - 1), sector(number)
    digest = hashlib.sha256(used).digest()
    return Entry(
        f"{number:032x}",
        {"verb": "test", "n": number},
        f"qcowtui test {number} \x1b[2J \udcff",
        1_700_000_000_000_000_000 + number,
        (Patch(0, old, new), Patch(4096, old, new)),
        old,
        new,
        digest,
        digest,
    )


def switch(storage: WritableStorage, patches: tuple[Patch, ...]) -> None:
    for patch in patches:
        storage.write(patch.offset, patch.after)
    storage.flush()


class Bench:
    """An image, its history in a folder, and the three switches as a caller makes them."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        path.write_bytes(image_bytes())
        self.storage = open_local_writable(path)
        self.folder = LocalFolder.private(str(folder))
        self.file = folder / file_name(subject_of(str(path)))

    def load(self) -> History:
        return History.load(str(self.path), self.storage, generation_of(self.storage), self.folder)

    def why(self, history: History | None = None) -> str | None:
        history = self.load() if history is None else history
        return history.valid_for(self.storage, generation_of(self.storage))

    def finish(self, history: History, *, joined: bool = False) -> None:
        self.storage.set_modified(unusual_mtime())
        mark = mark_of(self.storage, generation_of(self.storage)())
        history.done(mark, joined=joined)

    def do(self, number: int, *, joined: bool = False) -> History:
        history = self.load()
        history.begin()
        new = entry(number)
        history.prepare(new)
        switch(self.storage, new.patches)
        self.finish(history, joined=joined)
        return history

    def undo(self) -> Entry:
        history = self.load()
        assert self.why(history) is None
        patches = history.undo_patches()
        undone = history.prepare_undo()
        switch(self.storage, patches)
        self.finish(history)
        return undone

    def redo(self) -> Entry:
        history = self.load()
        assert self.why(history) is None
        patches = history.redo_patches()
        redone = history.prepare_redo()
        switch(self.storage, patches)
        self.finish(history)
        return redone


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "a.qcow2", tmp_path / "undo")


class TestStack:
    def test_an_unknown_image_has_nothing(self, bench: Bench) -> None:
        history = bench.load()
        why = bench.why(history)
        assert why is not None
        assert "nothing to undo" in why
        assert (history.undoable, history.redoable, history.held_roots()) == (None, None, ())
        for call in (history.prepare_undo, history.prepare_redo, history.undo_patches):
            with pytest.raises(EditRefused, match="nothing to"):
                call()
        assert not bench.file.exists()

    def test_undo_and_redo_through_three(self, bench: Bench) -> None:
        for number in (1, 2, 3):
            bench.do(number)
        assert [bench.undo().txid for _ in range(3)] == [entry(n).txid for n in (3, 2, 1)]
        assert bench.path.read_bytes() == image_bytes(0)
        history = bench.load()
        generation = generation_of(bench.storage)
        assert history.why_not_undo(bench.storage, generation) is not None
        assert history.why_not_redo(bench.storage, generation) is None
        assert [bench.redo().txid for _ in range(3)] == [entry(n).txid for n in (1, 2, 3)]
        assert bench.path.read_bytes() == image_bytes(3)
        history = bench.load()
        assert history.why_not_undo(bench.storage, generation) is None
        assert "nothing to redo" in str(history.why_not_redo(bench.storage, generation))
        assert history.entries == (entry(1), entry(2), entry(3))

    def test_a_new_change_gives_up_what_was_undone(self, bench: Bench) -> None:
        for number in (1, 2):
            bench.do(number)
        bench.undo()
        history = bench.load()
        other = replace(
            entry(2), txid="ff", new_sector=sector(77), patches=(Patch(0, sector(1), sector(77)),)
        )
        assert set(history.held_roots()) == {sector(0), sector(1), sector(2)}
        history.prepare(other)
        assert set(history.held_roots()) == {sector(0), sector(1), sector(2), sector(77)}
        switch(bench.storage, other.patches)
        bench.finish(history)
        for each in (history, bench.load()):
            assert each.entries == (entry(1), other)
            assert each.redoable is None
            assert set(each.held_roots()) == {sector(0), sector(1), sector(77)}

    def test_the_oldest_is_given_up(self, bench: Bench) -> None:
        for number in range(1, MAX_ENTRIES + 4):
            bench.do(number)
        history = bench.load()
        assert len(history.entries) == MAX_ENTRIES
        assert history.entries[0] == entry(4)
        assert sector(2) not in history.held_roots()
        assert bench.why() is None

    def test_batches_become_one(self, bench: Bench) -> None:
        bench.do(1)
        bench.do(2)
        bench.do(3, joined=True)
        bench.do(4, joined=True)
        history = bench.load()
        assert len(history.entries) == 2
        assert set(history.held_roots()) == {sector(0), sector(1), sector(4)}
        assert history.entries[1].command == entry(2).command
        bench.undo()
        assert bench.path.read_bytes() == image_bytes(1)

    def test_batches_of_other_places_stay_apart(self, bench: Bench) -> None:
        bench.do(1)
        history = bench.load()
        other = replace(entry(2), patches=(Patch(0, sector(1), sector(2)),))
        history.prepare(other)
        switch(bench.storage, other.patches)
        bench.finish(history, joined=True)
        assert history.entries == (entry(1), other)

    def test_what_was_given_up_is_told(self, bench: Bench) -> None:
        bench.do(1)
        bench.load().forget("Space was reclaimed.")
        history = bench.load()
        assert (history.entries, history.held_roots()) == ((), ())
        assert [(note.reason, note.commands) for note in history.notes] == [
            ("Space was reclaimed.", (entry(1).command,))
        ]
        why = bench.why(history)
        assert why is not None
        assert "Space was reclaimed (20" in why
        for number in range(MAX_NOTES + 5):
            bench.path.write_bytes(image_bytes())
            bench.do(1)
            bench.load().forget(f"reason {number}")
        assert len(bench.load().notes) == MAX_NOTES

    def test_the_file_and_its_folder_are_private(self, bench: Bench) -> None:
        bench.do(1)
        assert stat.S_IMODE(bench.file.stat().st_mode) == 0o600
        assert stat.S_IMODE(bench.file.parent.stat().st_mode) == 0o700
        assert os.listdir(bench.file.parent) == [bench.file.name]

    def test_the_state_folder_is_where_it_should_be(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        generation = generation_of(bench.storage)
        history = History.load(str(bench.path), bench.storage, generation)
        assert not (tmp_path / "state").exists()
        history.prepare(entry(1))
        assert (tmp_path / "state/qcowtui/undo" / bench.file.name).is_file()
        assert state_folder({"XDG_STATE_HOME": "relative"}).endswith("/.local/state/qcowtui")

    def test_a_folder_others_may_write_in_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        with pytest.raises(EditRefused, match="others"):
            LocalFolder.private(str(tmp_path / "open"))
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises((EditRefused, StorageError)):
            LocalFolder.private(str(tmp_path / "file"))
        with pytest.raises(StorageError):
            LocalFolder.private(str(tmp_path / "file" / "below"))


class TestForeign:
    def test_any_write_is_noticed_even_of_the_same_bytes(self, bench: Bench) -> None:
        bench.do(1)
        assert bench.why() is None
        with open(bench.path, "r+b") as file:
            file.seek(2048)
            file.write(bytes(1))
        why = bench.why()
        assert why is not None
        assert "another program changed it at about 20" in why

    def test_sector_0_and_the_size_count_whatever_the_time_says(self, bench: Bench) -> None:
        bench.do(1)
        mtime = bench.storage.modified()[1]
        for spoil in (lambda: os.truncate(bench.path, 9999), self._spoil_sector(bench.path)):
            kept = bench.path.read_bytes()
            spoil()
            os.utime(bench.path, ns=(mtime, mtime))
            assert "another program" in str(bench.why())
            bench.path.write_bytes(kept)
            os.utime(bench.path, ns=(mtime, mtime))
            assert bench.why() is None

    @staticmethod
    def _spoil_sector(path: Path) -> Callable[[], object]:
        return lambda: path.write_bytes(b"\0" + path.read_bytes()[1:])

    def test_a_replaced_file_is_noticed(self, bench: Bench) -> None:
        bench.do(1)
        mtime = bench.storage.modified()[1]
        other = bench.path.with_name("other")
        other.write_bytes(bench.path.read_bytes())
        os.utime(other, ns=(mtime, mtime))
        os.replace(other, bench.path)
        bench.storage = open_local_writable(bench.path)
        why = bench.why()
        assert why is not None
        assert "replaced by another file" in why
        bench.load().forget(why)
        bench.do(2)
        assert bench.why() is None

    def test_a_device_goes_by_what_it_uses(self, bench: Bench) -> None:
        subject = replace(subject_of(str(bench.path)), is_device=True)
        generation = generation_of(bench.storage)
        history = History.load(subject, bench.storage, generation, bench.folder)
        history.prepare(entry(1))
        switch(bench.storage, entry(1).patches)
        bench.finish(history)
        bench.storage.write(2048, b"guest data")
        moved = replace(subject, file=(0, 1))
        history = History.load(moved, bench.storage, generation, bench.folder)
        assert history.valid_for(bench.storage, generation) is None
        bench.storage.write(600, b"a cluster is taken")
        assert "another program" in str(history.valid_for(bench.storage, generation))

    def test_nothing_is_built_on_worthless_entries(self, bench: Bench) -> None:
        bench.do(1)
        bench.load().begin()
        bench.storage.write(600, b"a foreign cluster")
        history = bench.load()
        why = bench.why(history)
        assert why is not None
        assert "unfinished" in why
        with pytest.raises(ValueError, match="forgotten first"):
            history.prepare(entry(2))
        history.forget(why)
        history.prepare(entry(2, bench.storage.read(USED.start, SECTOR)))
        assert history.held_roots() == (sector(1), sector(2))


class TestInterrupted:
    """A program that ended between announcing a switch and reporting it."""

    def test_writing_to_free_clusters_is_not_foreign(self, bench: Bench) -> None:
        bench.do(1)
        bench.load().begin()
        bench.storage.write(8192, b"a new table")
        assert bench.why() is None
        bench.undo()
        assert bench.path.read_bytes()[: len(image_bytes())] == image_bytes(0)

    def test_without_the_announcement_it_would_be(self, bench: Bench) -> None:
        bench.do(1)
        bench.storage.write(8192, b"a new table")
        assert "another program" in str(bench.why())

    @pytest.mark.parametrize("made", [False, True])
    def test_a_change(self, bench: Bench, made: bool) -> None:
        bench.do(1)
        history = bench.load()
        history.prepare(entry(2))
        if made:
            switch(bench.storage, entry(2).patches)
        history = bench.load()
        assert history.entries == ((entry(1), entry(2)) if made else (entry(1),))
        assert bench.why(history) is None
        bench.undo()
        assert bench.path.read_bytes() == image_bytes(1 if made else 0)

    @pytest.mark.parametrize("made", [False, True])
    def test_the_first_change(self, bench: Bench, made: bool) -> None:
        bench.load().prepare(entry(1))
        if made:
            switch(bench.storage, entry(1).patches)
        history = bench.load()
        assert history.entries == ((entry(1),) if made else ())
        assert (bench.why(history) is None) is made

    @pytest.mark.parametrize("made", [False, True])
    def test_undo_and_redo(self, bench: Bench, made: bool) -> None:
        for number in (1, 2):
            bench.do(number)
        bench.load().prepare_undo()
        if made:
            switch(bench.storage, reversed_switch(entry(2).patches))
        assert bench.load().position == (1 if made else 2)
        assert bench.why() is None
        if not made:
            bench.undo()
        history = bench.load()
        history.prepare_redo()
        if made:
            switch(bench.storage, entry(2).patches)
        assert bench.load().position == (2 if made else 1)
        assert bench.why() is None

    def test_neither_state_is_foreign(self, bench: Bench) -> None:
        bench.do(1)
        bench.load().prepare(entry(2))
        switch(bench.storage, entry(2).patches[:1])
        assert "unfinished" in str(bench.why())

    def test_taking_clusters_afterwards_is_foreign(self, bench: Bench) -> None:
        bench.load().prepare(entry(1))
        switch(bench.storage, entry(1).patches)
        assert bench.why() is None
        bench.storage.write(600, b"a cluster is taken")
        assert "unfinished" in str(bench.why())

    def test_given_up_in_time(self, bench: Bench) -> None:
        bench.do(1)
        history = bench.load()
        history.begin()
        bench.storage.write(8192, b"a new table")
        history.prepare(entry(2))
        history.abandoned(mark_of(bench.storage, generation_of(bench.storage)()))
        assert history.entries == (entry(1),)
        assert bench.why() is None
        assert bench.why(history) is None

    @pytest.mark.parametrize("undo", [False, True])
    def test_given_up_although_it_was_made(self, bench: Bench, undo: bool) -> None:
        """As when the flush of the switch failed: the caller cannot know."""
        bench.do(1)
        history = bench.load()
        moved = history.prepare_undo() if undo else entry(2)
        if not undo:
            history.prepare(moved)
        switch(bench.storage, reversed_switch(moved.patches) if undo else moved.patches)
        history.abandoned(mark_of(bench.storage, generation_of(bench.storage)()))
        history = bench.load()
        assert history.position == (0 if undo else 2)
        assert bench.why(history) is None


def test_a_power_cut_leaves_no_wrong_undo() -> None:
    """At any moment of a change, an undo and a redo: what undo would write fits the image."""
    world = World({"img": image_bytes(0)})
    storage, folder = WorldStorage(world), WorldFolder(world)
    subject = Subject("/img", (7, 42))
    generation = generation_of(storage)

    def finish(history: History) -> None:
        history.done(mark_of(storage, generation()))

    history = History.load(subject, storage, generation, folder)
    # Only sector 0, which is what is written without a journal.
    steps = [replace(entry(n), patches=entry(n).patches[:1]) for n in (1, 2, 3)]
    for step in steps[:2]:
        history.begin()
        storage.write(2048, sector(50))
        storage.flush()
        history.prepare(step)
        switch(storage, step.patches)
        finish(history)
    history.prepare_undo()
    switch(storage, (steps[1].patches[0].reversed(),))
    finish(history)
    history.prepare_redo()
    switch(storage, steps[1].patches)
    finish(history)
    history.prepare(steps[2])
    switch(storage, steps[2].patches)
    finish(history)

    states = undoable = 0
    for files in world.after_crashes(random.Random(1)):
        states += 1
        after = World(files)
        image = WorldStorage(after)
        image.mtime_ns = 10**6 + states  # what a cut leaves of the time is anything
        found = History.load(subject, image, generation_of(image), WorldFolder(after))
        assert found.damaged is None
        if found.valid_for(image, generation_of(image)) is None:
            undoable += 1
            if found.undoable:
                assert is_at(image, found.undoable.patches, "after")
                assert is_at(image, found.undo_patches(), "before")
            if found.redoable:
                assert is_at(image, found.redoable.patches, "before")
    assert states > 150
    assert undoable > 40


class TestDamage:
    """Whatever the file holds: no traceback, and no other image's file is lost."""

    def test_every_kind_of_damage(self, bench: Bench) -> None:
        bench.do(1)
        good = bench.file.read_bytes()
        rng = random.Random(4)
        damaged = 0
        for _ in range(400):
            data = bytearray(good)
            kind = rng.randrange(3)
            at = rng.randrange(len(data))
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del data[at : at + rng.randrange(1, 99)]
            else:
                data = data[:at]
            bench.file.write_bytes(data)
            history = bench.load()
            why = bench.why(history)
            assert why is None or why.isprintable()
            if history.damaged:
                damaged += 1
                assert (history.entries, history.held_roots()) == ((), ())
        assert damaged > 200

    def test_a_damaged_file_is_put_aside(self, bench: Bench) -> None:
        bench.do(1)
        bench.file.write_bytes(b'{"format": 1}')
        history = bench.load()
        assert "damaged" in str(bench.why(history))
        history.prepare(entry(2))
        aside = bench.file.with_name(bench.file.name + ".damaged")
        assert aside.read_bytes() == b'{"format": 1}'
        assert bench.load().damaged is None

    def test_the_file_of_another_image_is_not_used_nor_lost(self, bench: Bench) -> None:
        bench.do(1)
        text = bench.file.read_text().replace(
            os.fsencode(bench.path).hex(), os.fsencode("/other.qcow2").hex()
        )
        bench.file.write_text(text)
        assert "another image" in str(bench.why())
        bench.load().forget("It is not ours.")
        assert bench.file.with_name(bench.file.name + ".damaged").read_text() == text

    @pytest.mark.parametrize("spoil", ["symlink", "mode", "hard link", "folder"])
    def test_whom_it_comes_from_matters(self, bench: Bench, spoil: str) -> None:
        bench.do(1)
        other = bench.file.with_name("other")
        if spoil == "mode":
            bench.file.chmod(0o666)
        elif spoil == "hard link":
            os.link(bench.file, other)
        else:
            bench.file.rename(other)
            if spoil == "symlink":
                bench.file.symlink_to(other)
            else:
                bench.file.mkdir()
        assert "cannot be used" in str(bench.why())
        history = bench.load()
        history.prepare(entry(2))
        assert bench.load().damaged is None

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("position", 2),
            ("position", -1),
            ("position", True),
            ("position", 10**400),
            ("step", "undone"),
            ("step", "redo"),
            ("step", "do"),
            ("left", None),
            ("left", []),
            ("version", 2),
            ("inode", "1"),
            ("entries", {}),
            ("entries", [{}]),
            ("entries", [None] * 21),
            ("notes", [1]),
            ("new", {}),
        ],
    )
    def test_values_are_checked(self, bench: Bench, key: str, value: object) -> None:
        bench.do(1)
        record = json.loads(bench.file.read_bytes())
        record[key] = value
        bench.file.write_text(json.dumps(record) if value != 10**400 else "1" * 5000)
        assert "damaged" in str(bench.why())

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("old-sector", "AAAA"),
            ("old-sector", "é"),
            ("new-sector", 5),
            ("patches", []),
            ("patches", [{"offset": -1, "before": "AAAA", "after": "AAAA"}]),
            ("patches", [{"offset": 1 << 70, "before": "AAAA", "after": "AAAA"}]),
            ("patches", [{"offset": 0, "before": "AAAA", "after": "AA=="}]),
            ("command", ["x"]),
            ("action", "x"),
            ("time-ns", 1.5),
        ],
    )
    def test_entries_are_checked(self, bench: Bench, key: str, value: object) -> None:
        bench.do(1)
        record = json.loads(bench.file.read_bytes())
        record["entries"][0][key] = value
        bench.file.write_text(json.dumps(record))
        assert "damaged" in str(bench.why())

    def test_entries_follow_from_each_other(self, bench: Bench) -> None:
        bench.do(1)
        bench.do(2)
        record = json.loads(bench.file.read_bytes())
        record["entries"].reverse()
        bench.file.write_text(json.dumps(record))
        assert "follow" in str(bench.why())

    def test_deep_nesting(self, bench: Bench) -> None:
        bench.do(1)
        bench.file.write_bytes(b"[" * 200_000)
        assert "no JSON" in str(bench.why())

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
        st.sampled_from(["entries", "position", "left", "step", "new", "notes", "path", "inode"]),
    )
    def test_any_json(self, value: object, key: str) -> None:
        world = World({"img": image_bytes(0)})
        storage, folder = WorldStorage(world), WorldFolder(world)
        subject = Subject("/img", (7, 42))
        generation = generation_of(storage)
        history = History.load(subject, storage, generation, folder)
        history.prepare(entry(1))
        name = file_name(subject)
        record = json.loads(world.files[name])
        record[key] = value
        for text in (json.dumps(value), json.dumps(record)):
            forged = World(world.files | {name: text.encode()})
            found = History.load(subject, storage, generation, WorldFolder(forged))
            why = found.valid_for(storage, generation)
            assert why is not None
            assert why.isprintable()


class TestArchive:
    def test_the_last_headers_are_kept(self, tmp_path: Path) -> None:
        folder = LocalFolder.private(str(tmp_path / "archive"))
        mine, other = Subject("/a", (1, 1)), Subject("/b", (1, 2))
        archive_header(other, b"x", "00", folder)
        for number in range(MAX_HEADERS + 3):
            archive_header(mine, sector(number) + bytes(65024), f"{number:032x}", folder)
        kept = archived_headers(mine, folder)
        assert [header.txid for header in kept] == [
            f"{number:032x}" for number in range(3, MAX_HEADERS + 3)
        ]
        assert (tmp_path / "archive" / kept[-1].name).read_bytes() == sector(MAX_HEADERS + 2)
        assert len(archived_headers(other, folder)) == 1

    def test_zeros_at_the_end_are_left_out_by_sectors(self, tmp_path: Path) -> None:
        folder = LocalFolder.private(str(tmp_path / "archive"))
        kept = archive_header(Subject("/a", (1, 1)), b"a" * 513 + bytes(3583), "00", folder)
        data = (tmp_path / "archive" / kept.name).read_bytes()
        assert data == b"a" * 513 + bytes(511)

    def test_the_state_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        kept = archive_header(Subject("/a", (1, 1)), b"a", "00")
        assert (tmp_path / "qcowtui" / "archive" / kept.name).is_file()


def test_times() -> None:
    first, second = unusual_mtime(), unusual_mtime()
    assert first != second
    assert when(0) == "1970-01-01 00:00:00"
    assert when(1 << 64) != ""
    assert when(1 << 200) == "an unknown time"
