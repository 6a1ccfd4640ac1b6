"""The grammar of options: that of getopt_long, which qemu-img has."""

from __future__ import annotations

import pytest

from qcow.errors import UsageError
from qcowtui.cli.options import CommandError, Option, parse, wants_json

OPTIONS = (
    Option("format", "f", "FMT"),
    Option("output", value="FORMAT"),
    Option("object", value="OBJECT", refused="No objects here."),
    Option("progress", "p"),
    Option("quiet", "q"),
    Option("", "l", "SNAPSHOT"),
    Option("repair", "r", "MODE", refused="No repair here."),
)


def given(*argv: str) -> tuple[list[str], dict[str, list[str]]]:
    found = parse(argv, OPTIONS)
    keys = [option.key for option in OPTIONS]
    return found.operands, {key: found.all(key) for key in keys if found.has(key)}


@pytest.mark.parametrize(
    ("argv", "operands", "options"),
    [
        (["a"], ["a"], {}),
        (["-f", "raw", "a"], ["a"], {"format": ["raw"]}),
        (["-fraw", "a"], ["a"], {"format": ["raw"]}),
        (["a", "-f", "raw", "b"], ["a", "b"], {"format": ["raw"]}),
        (["--format=raw", "a"], ["a"], {"format": ["raw"]}),
        (["--format", "raw", "a"], ["a"], {"format": ["raw"]}),
        (["--form", "raw"], [], {"format": ["raw"]}),
        (["--fo=raw", "a"], ["a"], {"format": ["raw"]}),
        (["--format="], [], {"format": [""]}),
        (["--format=a=b"], [], {"format": ["a=b"]}),
        (["-pq", "a"], ["a"], {"progress": [""], "quiet": [""]}),
        (["-pfraw"], [], {"progress": [""], "format": ["raw"]}),
        (["-f", "-p"], [], {"format": ["-p"]}),
        (["-f", "--", "a"], ["a"], {"format": ["--"]}),
        (["--", "-p", "--quiet"], ["-p", "--quiet"], {}),
        (["a", "--", "-p"], ["a", "-p"], {}),
        (["-"], ["-"], {}),
        (["-f", "raw", "-f", "qcow2"], [], {"format": ["raw", "qcow2"]}),
        (["-l", "first", "a"], ["a"], {"l": ["first"]}),
        (["", "a"], ["", "a"], {}),
    ],
)
def test_what_getopt_accepts(
    argv: list[str], operands: list[str], options: dict[str, list[str]]
) -> None:
    assert given(*argv) == (operands, options)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-x"], "unrecognized option '-x'"),
        (["--bogus"], "unrecognized option '--bogus'"),
        (["--bogus=1"], "unrecognized option '--bogus'"),
        (["-px"], "unrecognized option '-x'"),
        (["-f"], "missing argument for option '-f'"),
        (["-pf"], "missing argument for option '-f'"),
        (["--format"], "missing argument for option '--format'"),
        (["--quiet=yes"], "option '--quiet' takes no value"),
        (["--o=json"], "option '--o' is ambiguous: it can be --output, --object"),
        (["--=json"], "unrecognized option '--'"),
        (["-\x1b[2J"], "unrecognized option '-\\x1b'"),
        (["--\x1b[2J"], "unrecognized option '--\\x1b[2J'"),
    ],
)
def test_what_getopt_refuses(argv: list[str], said: str) -> None:
    with pytest.raises(CommandError) as caught:
        given(*argv)
    assert str(caught.value) == said


@pytest.mark.parametrize("argv", [["-r", "all"], ["-rall"], ["--repair=leaks"], ["--obj", "x,y"]])
def test_what_a_later_version_may_have_is_refused_in_its_own_words(argv: list[str]) -> None:
    with pytest.raises(UsageError, match=r"No (repair|objects) here\."):
        given(*argv)


def test_the_last_value_counts() -> None:
    assert parse(["-f", "raw", "-f", "qcow2"], OPTIONS).get("format") == "qcow2"
    assert parse([], OPTIONS).get("format") is None


@pytest.mark.parametrize(
    ("argv", "json"),
    [([], False), (["--output=human"], False), (["--output=json"], True), (["--json"], True)],
)
def test_spelling_of_results(argv: list[str], json: bool) -> None:
    from qcowtui.cli.options import OUTPUTS

    assert wants_json(parse(argv, OUTPUTS)) is json


def test_unknown_spelling_of_results() -> None:
    from qcowtui.cli.options import OUTPUTS

    with pytest.raises(CommandError, match="human or json"):
        wants_json(parse(["--output=xml"], OUTPUTS))
