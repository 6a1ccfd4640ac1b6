"""What is found out about a place, from either side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qcow.errors import Cancelled
from qcow.inspect.classes import ClusterClass
from qcow.jobs import CancelToken
from qcowtui.views.lookup import look_up
from qcowtui.views.selection import select_guest, select_host
from qcowtui.views.session import Session, open_session
from qcowtui.views.summary import cell_of, places
from qcowtui.views.work import HOST_MAP, run_job
from tests.support.images import small_builder

SIZE = 65536


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    path = small_builder().write(tmp_path / "image.qcow2")
    opened = open_session(str(path))
    run_job(HOST_MAP, opened, lambda progress: None, CancelToken())
    yield opened
    opened.close()


def test_from_the_guest_to_the_file_and_back(session: Session) -> None:
    found = look_up(session, select_guest(5 * SIZE + 17))
    assert found.complete
    assert (found.l1_index, found.l2_index) == (0, 5)
    assert found.guest_offset == 5 * SIZE
    assert found.cluster_class is ClusterClass.SHARED
    assert found.refcount == 2
    assert found.owner == "active, first"
    assert found.host_cluster is not None
    back = look_up(session, select_host(found.host_cluster))
    assert (back.guest_offset, back.state) == (5 * SIZE, "active")
    assert back.same_place(found)


def test_what_only_a_snapshot_has_says_so(session: Session) -> None:
    old = look_up(session, select_guest(2 * SIZE, "snapshot:1"))
    new = look_up(session, select_guest(2 * SIZE))
    assert old.host_cluster != new.host_cluster
    assert (old.owner, new.owner) == ("first", "active")
    assert old.host_cluster is not None
    again = look_up(session, select_host(old.host_cluster))
    assert again.state == "snapshot:1"


def test_places_without_a_host_cluster(session: Session) -> None:
    zero = look_up(session, select_guest(8 * SIZE))
    assert zero.host_cluster is None
    assert zero.cluster_class is ClusterClass.ZERO_ALLOCATED
    nothing = look_up(session, select_guest(100 * SIZE))
    assert nothing.host_cluster is None
    assert nothing.cluster_class is ClusterClass.FREE
    assert nothing.owner == "not allocated: reads as zeros"
    compressed = look_up(session, select_guest(13 * SIZE))
    assert compressed.host_cluster is not None
    assert compressed.cluster_class is ClusterClass.COMPRESSED


def test_tables_name_themselves(session: Session) -> None:
    assert look_up(session, select_host(0)).owner == "header"
    image = session.qcow2
    assert image is not None
    table = image.snapshots[0].l1_table_offset // SIZE
    assert look_up(session, select_host(table)).owner == "L1 table of first"


def test_the_words_of_the_status_line(session: Session) -> None:
    found = look_up(session, select_guest(5 * SIZE))
    said = " · ".join(f"{one.label} {one.value}".strip() for one in places(session, found))
    assert found.host_cluster is not None
    assert said == (
        f"host {found.host_cluster * SIZE:#x} · guest 0x50000 · L1[0] L2[5] · refcount 2 · shared"
        " · owner active, first"
    )
    assert cell_of(session, found).startswith(f"cluster {found.host_cluster}/")


def test_a_snapshot_that_is_gone_is_a_sentence(session: Session) -> None:
    found = look_up(session, select_guest(0, "snapshot:77"))
    assert found.complete
    assert found.error is not None
    assert "77" in found.error


def test_it_can_be_cancelled(session: Session) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        look_up(session, select_host(2), cancel=token)
