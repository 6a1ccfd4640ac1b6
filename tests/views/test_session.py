"""Opening for looking: as a reader, live beside a writer, and what is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.errors import StorageError
from qcow.jobs import CancelToken
from qcow.storage.gate import Policy
from qcow.storage.locks import LockMode
from qcowtui.views.app_state import MAX_RECENT, load_state, state_path
from qcowtui.views.badges import badges
from qcowtui.views.jobs import ask_holders
from qcowtui.views.session import open_session, open_with_grants
from qcowtui.views.summary import facts, file_name
from qcowtui.views.tones import Tone
from qcowtui.views.work import SHARING, run_job
from tests.support.images import small_builder
from tests.support.live import io_session
from tests.support.qemu import qemu_img


def test_a_free_image_is_held_as_a_reader(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "image.qcow2")
    session = open_session(str(path))
    assert not session.live
    assert [badge.text for badge in badges(session)] == ["RO"]
    assert facts(session)[0] == "qcow2 v3"
    session.close()


@pytest.mark.oracle
def test_an_image_in_use_is_live_until_its_writer_leaves(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "64M")
    with io_session(path):
        session = open_session(str(path))
        assert session.live
        ask_holders(session)
        assert session.lock_state.writer
        badge = badges(session)[0]
        assert badge.text.startswith("IN USE qemu-io ")
        assert badge.text.endswith(" · LIVE")
        assert badge.tone is Tone.WARNING
        assert not session.try_lock()
    assert session.try_lock()
    assert session._lock.mode is LockMode.READER
    session.close()


def test_adopting_forgets_what_followed_from_the_old_image(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "image.qcow2")
    other = small_builder(snapshot=False).write(tmp_path / "other.qcow2")
    session = open_session(str(path))
    run_job(SHARING, session, lambda progress: None, CancelToken())
    assert session.qcow2 is not None
    assert session.sharing is not None
    assert len(session.qcow2.snapshots) == 1
    path.write_bytes(other.read_bytes())  # the same file with other contents
    session.adopt(session.parse_again())
    assert session.revision == 1
    assert session.qcow2.snapshots == ()
    assert session.sharing is None
    session.close()


def test_a_name_is_shown_safely(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "a\x1b[31mb\u202e.qcow2")
    session = open_session(str(path))
    assert file_name(session) == r"a\x1b[31mb\u202e.qcow2"
    session.close()


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing"):
        open_session(str(tmp_path / "nothing"))


def test_recent_images_and_trust_are_remembered(tmp_path: Path) -> None:
    kept = tmp_path / "state" / "state.json"
    path = small_builder().write(tmp_path / "image.qcow2")
    state = load_state(kept)
    session = open_with_grants(str(path), state)
    assert session.gate.policy is Policy.CLOSED
    session.close()
    state.trust(str(tmp_path))
    again = load_state(kept)
    assert again.recent == [str(path)]
    session = open_with_grants(str(path), again)
    assert session.gate.policy is Policy.FOLDERS
    assert session.gate.folders == (str(tmp_path),)
    session.close()
    assert not again.trusts("/elsewhere/image.qcow2")


def test_recent_images_are_few_and_each_is_there_once(tmp_path: Path) -> None:
    state = load_state(tmp_path / "state.json")
    for number in range(MAX_RECENT + 5):
        state.opened(f"/images/{number}")
    state.opened("/images/20")
    assert len(state.recent) == MAX_RECENT
    assert state.recent[0] == "/images/20"
    assert state.recent.count("/images/20") == 1


@pytest.mark.parametrize(
    "content", ["", "nonsense", "[]", '{"recent": 3}', '{"recent": ["relative", 5]}']
)
def test_a_state_file_that_is_wrong_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    kept = tmp_path / "state.json"
    kept.write_text(content)
    assert load_state(kept).recent == []


def test_a_state_that_cannot_be_written_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = load_state(tmp_path / "file" / "state.json")
    state.opened("/images/1")
    assert state.recent == ["/images/1"]


def test_where_it_is_kept() -> None:
    assert state_path({"XDG_STATE_HOME": "/s"}) == Path("/s/qcowtui/state.json")
    assert state_path({"HOME": "/h"}) == Path("/h/.local/state/qcowtui/state.json")
