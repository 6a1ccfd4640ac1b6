"""Picking the verb, help, versions, and requests that make no sense."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import qcowtui as package
from qcowtui.cli import registry
from tests.support.cli import qcowtui, qcowtui_process

OUR_VERBS = (
    "audit", "space", "diff", "clusters", "fragmentation", "chain", "header", "read", "demo",
)  # fmt: skip


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_verb_with_an_example(flag: str) -> None:
    ended = qcowtui(flag)
    assert (ended.code, ended.stderr) == (0, b"")
    said = ended.stdout.decode()
    assert set(OUR_VERBS) < set(registry.NAMES)
    for name in registry.NAMES:
        summary = registry.load(name).summary
        assert f"  {name:<15}{summary}\n" in said
        assert f"\n  qcowtui {name}" in said[said.index("Examples:") :]
    assert max(map(len, said.splitlines())) <= 96


@pytest.mark.parametrize("name", registry.NAMES)
@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["x", "y", "--help"]], ids=" ".join)
def test_help_of_a_verb_names_every_option(name: str, argv: list[str]) -> None:
    ended = qcowtui(name, *argv)
    assert (ended.code, ended.stderr) == (0, b"")
    said = ended.stdout.decode()
    verb = registry.load(name)
    for option in verb.options:
        spelt = f"--{option.long}" if option.long else f"-{option.short}"
        assert (spelt in said) == (not option.refused)
    for arguments, _ in verb.examples:
        assert f"  qcowtui {name} {arguments}".rstrip() in said.splitlines()
    assert "Exit codes:" in said
    assert max(map(len, said.splitlines())) <= 96


def test_help_behind_two_dashes_is_a_file_name() -> None:
    assert qcowtui("info", "--", "--help").code == 1


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag: str) -> None:
    ended = qcowtui(flag)
    assert (ended.code, ended.stdout.decode()) == (0, f"qcowtui {package.__version__}\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["info"], "Expecting one image file name"),
        (["info", "a", "b"], "Expecting one image file name"),
        (["map"], "Expecting one image file name"),
        (["check", "a", "b"], "Expecting one image file name"),
        (["snapshot", "-l"], "Expecting one image file name"),
        (["compare", "a"], "Expecting two image file names"),
        (["compare", "a", "b", "c"], "Expecting two image file names"),
        (["diff", "a", "active"], "Expecting one image file name and two states"),
        (["audit"], "Expecting at least one image file name"),
        (["demo", "a", "b"], "Expecting at most one folder"),
        (["info", "--output=xml", "a"], "--output must be used with human or json as argument."),
        (["read", "--output=xml", "a"], "--output must be used with raw, hex or json as argument."),
        (["info", "--nonsense", "a"], "unrecognized option '--nonsense'"),
    ],
)
def test_usage_errors_point_at_the_help(argv: list[str], said: str) -> None:
    ended = qcowtui(*argv)
    assert (ended.code, ended.stdout) == (1, b"")
    assert ended.stderr.decode() == (
        f"qcowtui: {said}\nTry 'qcowtui {argv[0]} --help' for more information.\n"
    )


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["info", "--object", "secret,id=s,data=x"], "--object"),
        (["map", "--image-opts"], "--image-opts"),
        (["check", "-T", "bogus"], "Invalid source cache option: bogus"),
    ],
)
def test_what_this_version_does_not_do_is_refused(argv: list[str], said: str, small: Path) -> None:
    ended = qcowtui(*argv, small)
    assert (ended.code, ended.stdout) == (1, b"")
    assert said in ended.stderr.decode()


@pytest.mark.parametrize("mode", ["none", "writeback", "directsync"])
def test_cache_modes_have_no_effect(mode: str, small: Path) -> None:
    assert qcowtui("check", "-T", mode, small).stdout == qcowtui("check", small).stdout


def test_a_missing_file_is_spelt_as_qemu_img_does() -> None:
    ended = qcowtui("info", "nosuch")
    assert ended.code == 1
    assert ended.stderr == (
        b"qcowtui: Could not open 'nosuch': Could not open 'nosuch': No such file or directory\n"
    )


def test_an_address_is_told_from_a_missing_file() -> None:
    ended = qcowtui("info", "nbd://localhost:1/")
    assert ended.code == 1
    assert b"files and block devices only, not 'nbd:' addresses" in ended.stderr


def test_a_hostile_file_name_is_shown_harmlessly() -> None:
    ended = qcowtui("info", "\x1b[2J\u202e")
    assert ended.stderr.decode().replace("\n", "").isprintable()
    assert b"\\x1b[2J\\u202e" in ended.stderr


def test_a_mistyped_verb_is_recognised() -> None:
    ended = qcowtui("chekc", "disk.qcow2")
    assert ended.code == 1
    assert b"'chekc' is neither a command nor a file; did you mean `check`?" in ended.stderr


def test_without_a_terminal_an_image_has_to_be_named() -> None:
    ended = qcowtui_process()
    assert (ended.code, ended.stdout) == (1, b"")
    assert b"Name an image" in ended.stderr


def test_an_unknown_colour_mode() -> None:
    assert b"--color must be used with" in qcowtui("--color=purple", "x").stderr


#: What a verb needs besides the image.
NEEDED = {
    "write": ("0", os.devnull),
    "discard": ("0", "1"),
    "resize": ("1M",),
    "rebase": ("-b", "base", "-F", "raw"),
    "relink": ("-b", "base", "-F", "raw"),
    "amend": ("-o", "compat=1.1"),
    "bitmap": ("name", "--add"),
    "rescue": ("--raw", os.devnull),
    "bundle": (os.devnull,),
}


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_file_that_cannot_be_opened(name: str, tmp_path: Path) -> None:
    if name == "demo":
        (tmp_path / "file").write_bytes(b"")
        ended = qcowtui("demo", "--write-only", tmp_path / "file" / "folder")
    elif name == "diff":
        ended = qcowtui(name, tmp_path / "no", "active", "active")
    elif name == "compare":
        ended = qcowtui(name, tmp_path / "no", tmp_path / "no")
    elif name == "create":
        ended = qcowtui(name, "-q", tmp_path / "no" / "image", "1M")
    else:
        ended = qcowtui(name, tmp_path / "no", *NEEDED.get(name, ()))
    assert ended.code == (2 if name == "compare" else 1)
    # audit goes on with the next file, so what is wrong with this one is among its results
    said = ended.stdout if name == "audit" else ended.stderr
    assert b"No such file" in said or b"Not a directory" in said
    assert b"Unexpected" not in ended.stderr
