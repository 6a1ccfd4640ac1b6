"""``chain`` and ``audit``: other files an image has to do with."""

from __future__ import annotations

from pathlib import Path

from tests.cli.asking import CLUSTER, as_json, as_text
from tests.support.cli import qcowtui


def test_chain_says_what_each_layer_serves(overlay: Path) -> None:
    found = as_json("chain", overlay)
    top, base = found["layers"]
    assert (top["depth"], top["served"], top["status"]) == (0, CLUSTER, "ok")
    assert (base["name"], base["format"], base["stated-format"]) == (
        "base.qcow2",
        "qcow2",
        "qcow2",
    )
    assert base["hidden"] == CLUSTER
    assert top["served"] + base["served"] + found["unserved"] == found["virtual-size"]
    said = as_text("chain", overlay)
    assert f"-> {overlay.parent / 'base.qcow2'}" in said
    assert "serves 64 KiB" in said


def test_chain_with_a_missing_layer_fails_but_tells_the_rest(overlay: Path) -> None:
    (overlay.parent / "base.qcow2").unlink()
    found = as_json("chain", overlay, code=1)
    assert [layer["status"] for layer in found["layers"]] == ["ok", "missing"]
    assert [finding["code"] for finding in found["findings"]] == ["QCOW-CHAIN-MISSING"]
    ended = qcowtui("chain", overlay)
    assert ended.code == 1
    assert b"missing: " in ended.stdout


def test_chain_finds_who_builds_on_an_image(overlay: Path) -> None:
    base = overlay.parent / "base.qcow2"
    found = as_json("chain", f"--search={overlay.parent}", base)
    assert [one["filename"] for one in found["dependents"]] == [str(overlay)]
    assert found["searched-images"] == 2
    assert str(overlay) in as_text("chain", f"--search={overlay.parent}", base)
    assert as_json("chain", f"--search={overlay.parent}", overlay)["dependents"] == []


def test_audit_judges_every_file(small: Path, overlay: Path, tmp_path: Path) -> None:
    ended = qcowtui("audit", small)
    assert ended.code == 0
    assert ended.stdout.decode().startswith(f"PASS {small} (qcow2, ")
    found = as_json("audit", small, overlay, tmp_path / "nosuch", code=1)
    assert [one["passed"] for one in found] == [True, False, False]
    failed = [check["name"] for check in found[1]["checks"] if not check["passed"]]
    assert failed == ["backing-file"]
    assert (found[2]["format"], found[2]["checks"]) == (None, [])
    assert "No such file" in found[2]["error"]


def test_audit_with_limits(small: Path) -> None:
    assert qcowtui("audit", "--max-virtual-size=1M", small).code == 1
    assert qcowtui("audit", "--max-virtual-size=1T", small).code == 0
    assert qcowtui("audit", "-f", "raw", small).code == 1
    assert b"pass format" in qcowtui("audit", "--all", small).stdout
