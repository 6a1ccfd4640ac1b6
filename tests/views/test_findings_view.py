"""Findings on the screen: worst first, in words, with their places."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.findings import Severity
from qcow.storage.gate import Gate
from qcowtui.samples.builder import ImageBuilder
from qcowtui.samples.built import BuiltImage
from qcowtui.samples.damage import (
    leak_clusters,
    lower_refcounts,
    mark_dirty,
    overlap_l1_table,
)
from qcowtui.views.findings_view import FindingsView, check_words
from qcowtui.views.selection import select_guest, select_host
from qcowtui.views.session import Part, PartState
from qcowtui.views.tones import Tone
from qcowtui.views.work import CHAIN, CHECK

from ..support.images import pattern, small_builder
from .opened import fill, opened

SIZE = 65536


def image(**options: bool) -> BuiltImage:
    builder = ImageBuilder(virtual_size=16 << 20, **options)  # type: ignore[arg-type]
    for number in range(30):
        builder.data(number, pattern(number, SIZE))
    return builder.build()


def test_nothing_found_is_said_with_care(tmp_path: Path) -> None:
    path = small_builder().write(tmp_path / "a.qcow2")
    with opened(path) as session:
        assert check_words(session)[0] == "NOT CHECKED"
    with opened(path, CHECK) as session:
        assert len(FindingsView(session)) == 0
        words = "No metadata errors found; guest content not verified."
        assert check_words(session) == ("OK", words, Tone.GOOD)


def test_worst_first(tmp_path: Path) -> None:
    built = image()
    leak_clusters(built, 3)
    lower_refcounts(built, range(5, 8))
    with opened(built.save(tmp_path / "a.qcow2"), CHECK) as session:
        view = FindingsView(session)
        ranks = [row.finding.severity for row in view.rows]
        assert ranks == sorted(ranks, reverse=True)
        assert {Severity.CORRUPTION, Severity.LEAK} <= set(ranks)
        assert session.check is not None
        word, sentence, tone = check_words(session)
        assert (word, tone) == ("CORRUPT", Tone.BAD)
        assert f"{session.check.corruptions} corruptions and 3 leaked clusters" in sentence


def test_leaks_alone(tmp_path: Path) -> None:
    built = image()
    leak_clusters(built, 5)
    with opened(built.save(tmp_path / "a.qcow2"), CHECK) as session:
        assert check_words(session)[0] == "LEAKS"
        assert "5 leaked clusters" in check_words(session)[1]
        view = FindingsView(session)
        assert (view.rows[0].severity, view.rows[0].count) == ("LEAK", "5 places")


def test_places_are_where_the_damage_is(tmp_path: Path) -> None:
    built = image()
    first = built.nb_clusters
    leak_clusters(built, 2)
    leak_clusters(built, 1, first + 4)
    with opened(built.save(tmp_path / "a.qcow2"), CHECK) as session:
        view = FindingsView(session)
        assert [place.host_cluster for place in view.places(0)] == [first, first + 4]
        assert 0 in view.about(select_host(first + 1))
        assert 0 not in view.about(select_host(first + 2))
        assert 0 not in view.about(select_host(0))


def test_guest_ranges_are_told_and_matched(tmp_path: Path) -> None:
    built = image()
    lower_refcounts(built, [7])
    with opened(built.save(tmp_path / "a.qcow2"), CHECK) as session:
        view = FindingsView(session)
        at = next(i for i, row in enumerate(view.rows) if row.finding.code == "QCOW-REFCOUNT-ZERO")
        assert view.rows[at].hits == "hits 64 KiB"
        assert at in view.about(select_guest(7 * SIZE))
        assert at not in view.about(select_guest(8 * SIZE))
        assert at not in view.about(select_guest(7 * SIZE, "snapshot:1"))
        said = dict(view.details(at))
        assert said["guest data hit"] == "64 KiB of the active disk: 0x70000-0x80000"
        assert said["code"] == "QCOW-REFCOUNT-ZERO"
        assert {"what it is", "what follows", "what to do", "in the file"} <= set(said)


def test_snapshots_hit_are_named(tmp_path: Path) -> None:
    builder = ImageBuilder(virtual_size=16 << 20)
    builder.data(3, b"old")
    builder.snapshot("before [bold]")
    builder.data(3, b"new")
    built = builder.build()
    host = next(
        (entry & 0x00FFFFFFFFFFFE00) >> 16
        for entry in builder.model.snapshots[0].l1[0].entries.values()
    )
    built.set_refcount(host, 0)
    with opened(built.save(tmp_path / "a.qcow2"), CHECK) as session:
        said = [
            text
            for row in range(len(FindingsView(session)))
            for _, text in FindingsView(session).details(row)
        ]
        assert any("64 KiB of snapshot before [bold]: 0x30000-0x40000" in text for text in said)


def test_an_unclean_shutdown_is_no_drama(tmp_path: Path) -> None:
    built = image(lazy_refcounts=True)
    lower_refcounts(built, range(20, 24))
    mark_dirty(built)
    with opened(built.save(tmp_path / "a.qcow2"), CHECK) as session:
        word, sentence, tone = check_words(session)
        assert (word, tone) == ("DIRTY", Tone.NOTE)
        assert sentence.startswith("Not cleanly shut down: refcounts were postponed")
        stale = FindingsView(session).rows[0]
        assert (stale.severity, stale.tone) == ("DIRTY", Tone.NOTE)
    overlap_l1_table(built, 3)
    with opened(built.save(tmp_path / "b.qcow2"), CHECK) as session:
        assert check_words(session)[0] == "CORRUPT"


def test_filter(tmp_path: Path) -> None:
    built = image()
    leak_clusters(built, 2)
    overlap_l1_table(built, 3)
    with opened(built.save(tmp_path / "a.qcow2"), CHECK) as session:
        every = FindingsView(session)
        assert len(every) > 1
        only = FindingsView(session, "qcow-leak")
        assert [row.finding.code for row in only.rows] == ["QCOW-LEAK"]
        assert only.total == every.total
        assert len(FindingsView(session, "no such words")) == 0


def test_a_check_that_failed_or_was_stopped(tmp_path: Path) -> None:
    with opened(small_builder().write(tmp_path / "a.qcow2")) as session:
        session.states[Part.CHECK] = PartState.PARTIAL
        assert check_words(session)[0] == "CHECKING"
        session.failures[Part.CHECK] = "The disk went away."
        assert check_words(session) == ("NOT CHECKED", "The disk went away.", Tone.BAD)
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes(4096))
    with opened(raw) as session:
        assert check_words(session)[2] is Tone.MUTED


def test_incomplete_checks_say_so(tmp_path: Path) -> None:
    from dataclasses import replace

    with opened(small_builder().write(tmp_path / "a.qcow2"), CHECK) as session:
        assert session.check is not None
        session.check = replace(session.check, check_errors=2)
        word, sentence, tone = check_words(session)
        assert (word, tone) == ("INCOMPLETE", Tone.WARNING)
        assert "2 places could not be checked" in sentence


def test_the_chain_speaks_of_keys_here(tmp_path: Path) -> None:
    builder = small_builder()
    builder.backing("base.qcow2")
    with opened(builder.write(tmp_path / "a.qcow2"), CHECK, CHAIN) as session:
        view = FindingsView(session)
        at = next(i for i, row in enumerate(view.rows) if row.finding.code == "QCOW-CHAIN-REFUSED")
        for _, text in view.details(at):
            assert "--follow" not in text
        assert view.places(at) == []


@pytest.mark.parametrize("name", ["\x1b[31m[@click=app.quit]\u202e", "plain"])
def test_every_text_is_printable(tmp_path: Path, name: str) -> None:
    builder = small_builder()
    builder.backing(name)
    builder.snapshot(name)
    built = builder.build()
    lower_refcounts(built, [1])
    path = built.save(tmp_path / "a.qcow2")
    with opened(path, CHECK, CHAIN, gate=Gate.follow()) as session:
        view = FindingsView(session)
        assert len(view) > 0
        for at, row in enumerate(view.rows):
            texts = [row.what, row.severity, row.count, row.hits]
            texts += [line for pair in view.details(at) for line in "\n".join(pair).split("\n")]
            assert all(text.isprintable() for text in texts)


def test_what_a_check_does_not_judge_stays_listed(tmp_path: Path) -> None:
    builder = small_builder()
    builder.backing("/etc/shadow", "raw")
    with opened(builder.write(tmp_path / "a.qcow2")) as session:
        before = {row.finding.code for row in FindingsView(session).rows}
        fill(session, CHECK)
        after = [row.finding.code for row in FindingsView(session).rows]
        assert "QCOW-REF-UNTRUSTED" in before
        assert before <= set(after)
        assert len(after) == len(set(after))


def test_an_unclean_shutdown_is_told_once(tmp_path: Path) -> None:
    built = image(lazy_refcounts=True)
    lower_refcounts(built, [3])
    mark_dirty(built)
    with opened(built.save(tmp_path / "a.qcow2")) as session:
        assert [row.finding.code for row in FindingsView(session).rows] == ["QCOW-DIRTY"]
        fill(session, CHECK)
        assert [row.finding.code for row in FindingsView(session).rows] == ["QCOW-REFCOUNT-STALE"]
