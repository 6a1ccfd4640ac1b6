"""Light verbs start fast: what they load, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qcowtui.cli import registry

HEAVY = ("numpy", "rich", "textual", "asyncio", "cryptography", "backports.zstd")
#: Loaded by nothing that only looks at small structures.
_SCRIPT = """
import sys
from qcowtui.cli.main import main
code = main(sys.argv[1:])
sys.stdout.flush()
print(code, *sorted(sys.modules), file=sys.stderr)
"""


def _loaded(*argv: str | Path) -> tuple[int, set[str]]:
    done = subprocess.run([sys.executable, "-c", _SCRIPT, *map(str, argv)], capture_output=True)
    code, *modules = done.stderr.decode().splitlines()[-1].split()
    return int(code), set(modules)


LIGHT = [
    ("info",),
    ("info", "--output=json"),
    ("info", "--backing-chain"),
    ("snapshot", "-l"),
    ("snapshot", "-l", "--output=json"),
    ("header",),
    ("header", "--output=json"),
    ("audit",),
    ("audit", "--output=json"),
    ("measure", "-O", "raw"),
]


@pytest.mark.parametrize("argv", LIGHT, ids=" ".join)
def test_light_verbs_load_nothing_heavy(argv: tuple[str, ...], small: Path) -> None:
    code, modules = _loaded(*argv, small)
    assert code == 0
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "argv",
    [("--help",), ("--version",), ("map", "--help"), ("measure", "-O", "qcow2", "--size=1T")],
    ids=" ".join,
)
def test_what_needs_no_image_is_light_too(argv: tuple[str, ...]) -> None:
    code, modules = _loaded(*argv)
    assert code == 0
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("verb", registry.NAMES)
def test_no_verb_is_slow_to_complain(verb: str) -> None:
    """Reading the command line loads none of what the work needs."""
    code, modules = _loaded(verb, "--output=xml", "a")
    assert code == 1
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("verb", ["map", "check", "space", "clusters", "read", "fragmentation"])
def test_no_verb_loads_the_app(verb: str, small: Path) -> None:
    _, modules = _loaded(verb, small)
    assert "numpy" in modules
    assert modules.isdisjoint({"rich", "textual", "asyncio", "qcowtui.tui"})


def test_only_the_chosen_verb_is_loaded(small: Path) -> None:
    _, modules = _loaded("info", small)
    loaded = {name for name in modules if name.startswith("qcowtui.cli.verbs.")}
    assert loaded == {"qcowtui.cli.verbs.info"}
    assert "json" not in modules
    assert "argparse" not in modules


def test_every_verb_is_registered() -> None:
    folder = Path(registry.__file__).parent / "verbs"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "open"}
    assert files == set(registry.NAMES)
    assert all(registry.load(name).name == name for name in registry.NAMES)


def test_info_stays_within_a_generous_budget(small: Path) -> None:
    """Not a benchmark: it catches a heavy import that none of the names above stands for."""
    code, modules = _loaded("info", small)
    assert code == 0
    assert len(modules) < 200
