"""Every way to write an address, and what it means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qcow.errors import NotFoundError, QcowError, UsageError
from qcowtui.views.address import parse_address
from qcowtui.views.selection import Selection, select_guest, select_host
from qcowtui.views.session import Order, Session, open_session
from tests.support.images import small_builder

SIZE = 65536


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    path = small_builder().write(tmp_path / "image.qcow2")
    opened = open_session(str(path))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("text", "order", "place"),
    [
        ("0x20000", Order.HOST, select_host(2)),
        ("0x2_1234", Order.HOST, select_host(2)),
        ("0x20000", Order.GUEST, select_guest(0x20000)),
        ("128K", Order.HOST, select_host(2)),
        ("0.25 MiB", Order.HOST, select_host(4)),
        ("1M", Order.GUEST, select_guest(1 << 20)),
        ("3", Order.HOST, select_host(3)),
        ("#3", Order.GUEST, select_guest(3 * SIZE)),
        ("host 0x10000", Order.GUEST, select_host(1)),
        ("h:1", Order.GUEST, select_host(1)),
        ("guest 64K", Order.HOST, select_guest(SIZE)),
        ("G: 0x10000", Order.HOST, select_guest(SIZE)),
        ("l1:1", Order.HOST, select_guest(8192 * SIZE)),
        ("L1[1]", Order.HOST, select_guest(8192 * SIZE)),
        ("l2:0/5", Order.HOST, select_guest(5 * SIZE)),
        ("0%", Order.HOST, select_host(0)),
    ],
)
def test_forms(session: Session, text: str, order: Order, place: Selection) -> None:
    session.order = order
    assert parse_address(text, session) == place


def test_percent_reaches_the_end(session: Session) -> None:
    last = (session.file.size() - 1) // SIZE
    assert parse_address("100%", session) == select_host(last)
    middle = parse_address("50 %", session).host_cluster
    assert middle is not None
    assert abs(middle - last / 2) <= 1


def test_snapshots_by_name_and_id(session: Session) -> None:
    image = session.qcow2
    assert image is not None
    cluster = image.snapshots[0].l1_table_offset // SIZE
    for text in ("snap:first", "snapshot: first", "snap:1", 'snap:"first"'):
        assert parse_address(text, session) == select_host(cluster)
    with pytest.raises(NotFoundError, match="nowhere"):
        parse_address("snap:nowhere", session)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no address"),
        ("banana", "no address"),
        ("12Q", "no address"),
        ("-4", "no address"),
        ("0x", "no address"),
        ("1e6", "no address"),
        ("101%", "more than all"),
        ("host 1P", "beyond the end of the host file"),
        ("guest 1P", "beyond the end of the guest disk"),
        ("99999999999", "beyond the end"),
        ("l1:99", "entries 0 to 1"),
        ("l2:0/8192", "entries 0 to 8191"),
        ("l2:1/8191", "beyond the end"),
        ("\x1b[31m", r"\\x1b"),
    ],
)
def test_what_is_no_place_is_explained(session: Session, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        parse_address(text, session)
    assert str(caught.value).isprintable()


def test_a_raw_image_has_offsets_only(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(3 * SIZE))
    session = open_session(str(path))
    assert parse_address("64K", session) == select_host(1)
    for text in ("l1:0", "l2:0/0", "snap:x"):
        with pytest.raises(QcowError, match="raw image"):
            parse_address(text, session)
    session.close()
