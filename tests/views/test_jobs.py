"""What fills a session: complete, growing, cancelled or explained."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from qcow.inspect.classes import ClusterClass
from qcow.jobs import CancelToken, Progress
from qcowtui.views import jobs
from qcowtui.views.session import Part, PartState, Session, open_session
from qcowtui.views.work import (
    CHECK,
    DEPENDENTS,
    GUEST_MAP,
    HOST_MAP,
    OPENING,
    Job,
    compare,
    progress_text,
    run_job,
)
from tests.support.images import small_builder
from tests.support.qemu import qemu_img

SIZE = 65536


def silent(progress: Progress) -> None:
    """A job that nobody watches."""


def run(session: Session, *wanted: Job) -> None:
    for job in wanted:
        state = run_job(job, session, silent, CancelToken())
        assert state is PartState.COMPLETE, session.failures


def test_opening_fills_every_part(tmp_path: Path) -> None:
    session = open_session(str(small_builder().write(tmp_path / "image.qcow2")))
    run(session, *OPENING)
    owners, host_map = session.owners, session.host_map
    assert owners is not None
    assert host_map is not None
    assert host_map.classes(0, host_map.total).tolist() == [
        owners.class_of(cluster) for cluster in range(owners.total)
    ]
    assert session.refcounts is not None
    assert session.refcounts.unread_clusters == 0
    assert session.refcounts.mismatched_clusters == 0
    assert session.guest_map is not None
    assert session.guest_map.class_of(5) is ClusterClass.SHARED
    assert session.guest_map.class_of(8191) is ClusterClass.FREE
    assert not session.guest_map.counts[ClusterClass.UNREAD]
    assert session.check is not None
    assert session.check.exit_code == 0
    assert session.ancestry is not None
    assert session.space is not None
    assert session.space.by_class[ClusterClass.HEADER] == SIZE
    assert len(session.layers) == 1
    assert session.layers[0].coverage is not None
    assert session.fragmentation is not None
    assert not session.failures
    session.close()


def test_a_raw_file_is_mapped_by_its_holes(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    wanted = np.zeros(300, dtype=bool)
    generator = np.random.default_rng(7)
    with path.open("wb") as file:
        for cluster in np.flatnonzero(generator.random(300) < 0.3).tolist():
            wanted[cluster] = True
            os.pwrite(file.fileno(), b"x", cluster * SIZE + int(generator.integers(SIZE)))
        file.truncate(299 * SIZE + 5)
    wanted[299] = False
    session = open_session(str(path))
    run(session, *OPENING)
    for pyramid in (session.host_map, session.guest_map):
        assert pyramid is not None
        assert pyramid.total == 300
        found = pyramid.classes(0, 299) == ClusterClass.DATA
        assert found.tolist() == wanted[:299].tolist()
    session.close()


def test_a_raw_file_in_many_pieces_is_mapped_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        for place in range(0, 64, 3):  # runs of 4 KiB: several in a cluster, some across borders
            os.pwrite(file.fileno(), b"y" * 4096, place * 24576)
        file.truncate(64 * 24576)
    session = open_session(str(path))
    run(session, HOST_MAP)
    assert session.host_map is not None
    whole = session.host_map.classes(0, session.host_map.total).tolist()
    monkeypatch.setattr("qcow.formats.raw._BATCH", 1)
    session.host_map = None
    run(session, HOST_MAP)
    assert session.host_map is not None
    assert session.host_map.classes(0, session.host_map.total).tolist() == whole
    session.close()


def test_a_map_stays_until_its_successor_is_complete(tmp_path: Path) -> None:
    session = open_session(str(small_builder().write(tmp_path / "image.qcow2")))
    run(session, HOST_MAP, GUEST_MAP)
    before = session.host_map
    token = CancelToken()
    token.cancel()
    assert run_job(HOST_MAP, session, silent, token) is PartState.PARTIAL
    assert session.host_map is before
    run(session, HOST_MAP)
    assert session.host_map is not before
    session.close()


def test_cancelling_leaves_a_partial_part(tmp_path: Path) -> None:
    session = open_session(str(small_builder().write(tmp_path / "image.qcow2")))
    token = CancelToken()
    token.cancel()
    assert run_job(CHECK, session, silent, token) is PartState.PARTIAL
    assert session.check is None
    assert session.state_of(Part.CHECK) is PartState.PARTIAL
    session.close()


def test_what_cannot_be_read_fails_with_a_sentence(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "image.qcow2")
    with path.open("r+b") as file:
        file.seek(20)
        file.write((40).to_bytes(4, "big"))  # cluster_bits
    session = open_session(str(path))
    assert run_job(HOST_MAP, session, silent, CancelToken()) is PartState.FAILED
    assert "cannot be read" in session.failures[Part.HOST_MAP]
    assert "defect" not in session.failures[Part.HOST_MAP]
    session.close()


def test_a_defect_is_a_sentence_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(str(small_builder().write(tmp_path / "image.qcow2")))

    def broken(session: Session, progress: object, cancel: object) -> None:
        raise ZeroDivisionError("\x1b[31moops")

    monkeypatch.setattr(jobs, "run_check", broken)
    assert run_job(CHECK, session, silent, CancelToken()) is PartState.FAILED
    said = session.failures[Part.CHECK]
    assert "defect of qcowtui itself (ZeroDivisionError" in said
    assert "The image was not changed" in said
    assert said.isprintable()
    run_after = run_job(HOST_MAP, session, silent, CancelToken())
    assert run_after is PartState.COMPLETE
    session.close()


def test_two_states_are_compared(tmp_path: Path) -> None:
    session = open_session(str(small_builder().write(tmp_path / "image.qcow2")))
    run(session, compare("active", "snapshot:1"))
    found = session.difference
    assert found is not None
    assert found.title == "active ↔ first"
    different = np.flatnonzero(
        found.pyramid.classes(0, found.pyramid.total) == ClusterClass.CORRUPT
    )
    assert different.tolist() == [2, 3, 12]
    assert found.verdict == "192 KiB differ in 2 ranges"
    run(session, compare("active", "active"))
    assert session.difference is not None
    assert session.difference.verdict == "no difference"
    session.close()


def test_dependents_are_searched_in_the_own_folder(tmp_path: Path) -> None:
    base = small_builder().write(tmp_path / "base.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", tmp_path / "top.qcow2")
    session = open_session(str(base))
    run(session, DEPENDENTS)
    assert session.dependents is not None
    assert [Path(one.path).name for one in session.dependents.found] == ["top.qcow2"]
    session.close()


def test_progress_in_words() -> None:
    said = progress_text("Checking", Progress("reading L2", 256, 1024, "L2 tables"), 2.0)
    assert (
        said
        == "Checking: reading L2 · 256 of 1,024 L2 tables · 25.0 % · 128 L2 tables/s · 6.0 s left"
    )
    said = progress_text("Comparing", Progress("", 1 << 30, 4 << 30, "bytes"), 0.5)
    assert said == "Comparing · 1 GiB of 4 GiB · 25.0 %"
