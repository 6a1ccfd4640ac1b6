"""What a check amounts to, in words and badges."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcow.jobs import CancelToken
from qcowtui.samples.demo_set import write_demo_set
from qcowtui.views.badges import badges
from qcowtui.views.health import Health, health, health_words
from qcowtui.views.picker import candidates, check_quickly, look_at
from qcowtui.views.session import open_session
from qcowtui.views.tones import Tone
from qcowtui.views.work import CHECK, LEAKS, run_job


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_set(folder)
    return folder


@pytest.mark.parametrize(
    ("found", "words", "tone"),
    [
        (Health(0, 0, 0, False), "No metadata errors found; guest content not verified", Tone.GOOD),
        (
            Health(0, 1, 0, False),
            "1 leaked cluster: wasted space, or lost guest data",
            Tone.WARNING,
        ),
        (
            Health(0, 4, 0, False, lost=0, unsure=0),
            "4 leaked clusters: wasted space, none of it is guest data",
            Tone.WARNING,
        ),
        (
            Health(0, 4, 0, False, lost=0, unsure=3),
            "4 leaked clusters: 3 of unknown content, perhaps guest data",
            Tone.WARNING,
        ),
        (
            Health(0, 4, 0, False, lost=4, unsure=0),
            "4 leaked clusters: all look like lost guest data, so nothing may reclaim them",
            Tone.BAD,
        ),
        (
            Health(2, 4, 0, False, lost=3, unsure=1),
            "2 corruptions and 4 leaked clusters, 3 of them lost guest data by their looks: fix "
            "before anything writes to this image",
            Tone.BAD,
        ),
        (
            Health(2, 3, 0, False),
            "2 corruptions and 3 leaked clusters: fix before anything writes to this image",
            Tone.BAD,
        ),
        (
            Health(8, 0, 0, True),
            "Not cleanly shut down: refcounts were postponed, QEMU rebuilds them; no data is lost",
            Tone.NOTE,
        ),
        (
            Health(0, 0, 2, False),
            "No errors in what could be checked (2 places could not be checked)",
            Tone.WARNING,
        ),
    ],
)
def test_words(found: Health, words: str, tone: Tone) -> None:
    assert health_words(found) == words
    assert found.tone is tone


@pytest.mark.parametrize(
    ("image", "texts"),
    [
        ("web01.qcow2", ["OK", "RO"]),
        ("mail-leaks.qcow2", ["LEAKS 32", "RO"]),
        ("laptop-unclean.qcow2", ["DIRTY", "RO"]),
        ("untrusted-upload.qcow2", ["OK", "UNTRUSTED REFERENCE", "RO"]),
    ],
)
def test_badges_of_the_demo(demo: Path, image: str, texts: list[str]) -> None:
    session = open_session(str(demo / image))
    run_job(CHECK, session, lambda progress: None, CancelToken())
    assert [badge.text for badge in badges(session)] == texts
    session.close()


def test_leaks_that_are_lost_guest_data_are_told_from_wasted_space(demo: Path) -> None:
    session = open_session(str(demo / "mail-leaks.qcow2"))
    for job in (CHECK, LEAKS):
        run_job(job, session, lambda progress: None, CancelToken())
    found = badges(session)
    assert [badge.text for badge in found] == ["LOST DATA 21", "LEAKS 32", "RO"]
    assert found[0].tone is Tone.BAD
    session.close()


def test_an_unclean_shutdown_is_no_corruption(demo: Path) -> None:
    session = open_session(str(demo / "laptop-unclean.qcow2"))
    run_job(CHECK, session, lambda progress: None, CancelToken())
    assert session.check is not None
    assert session.check.exit_code == 2  # as qemu-img counts
    assert health(session.check).postponed
    assert not health(session.check).corrupt
    session.close()


def test_the_picker_tells_images_and_their_health(demo: Path, tmp_path: Path) -> None:
    (demo / "notes.txt").write_text("no image")
    (demo / "disk.img").write_bytes(bytes(1 << 20))
    looked = {Path(path).name: look_at(path) for path in candidates(str(demo))}
    assert looked["notes.txt"] is None
    raw = looked["disk.img"]
    assert raw is not None
    assert (raw.format, raw.virtual_size) == ("raw", "1 MiB")
    for name, said, tone in (
        ("web01.qcow2", "no errors found", Tone.GOOD),
        ("mail-leaks.qcow2", "32 leaked clusters", Tone.WARNING),
        ("laptop-unclean.qcow2", "not cleanly shut down", Tone.NOTE),
        ("untrusted-upload.qcow2", "reference outside the image's folder", Tone.NOTE),
    ):
        found = looked[name]
        assert found is not None
        checked = check_quickly(found)
        assert (checked.health, checked.tone) == (said, tone)
    corrupt = looked["files-corrupt.qcow2"]
    assert corrupt is not None
    assert check_quickly(corrupt).health.startswith("corrupt: ")
    gone = look_at(str(tmp_path / "gone.qcow2"), recent=True)
    assert gone is not None
    assert gone.health == "not there any more"
    assert look_at(str(tmp_path / "gone.qcow2")) is None
    for name in ("notes.txt", "disk.img"):
        (demo / name).unlink()
