"""Measure this program beside qemu-img and print one table; see ``--help``."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from . import app, edits, healing, rows
from .agreement import agree
from .earlier import Earlier
from .images.recipes import default_folder, ready
from .processes import Cost, interleaved, run
from .report import Line, mib, seconds, table
from .rows import ROWS, Row

#: The program as it is installed beside the running interpreter.
OURS = str(Path(sys.executable).with_name("qcowtui"))
#: The names of all rows, in the order of the table.
_NAMES = (*(row.name for row in ROWS), healing.NAME, *edits.NAMES, rows.INFO, rows.APP)


def _measured(row: Row, folder: Path, runs: int, earlier: Earlier, fresh: bool) -> Line:
    image = ready(row.image, folder)
    ours_argv = (OURS, *row.verb, str(image))
    qemu_argv = ("qemu-img", *row.verb, str(image))
    run(ours_argv)  # brings the metadata into the page cache
    theirs: Cost | None = None
    note = ""
    if row.ratio is None:
        (ours,) = interleaved([ours_argv], runs)
    elif row.slow:
        kept = earlier.measured(f"{image.name} {row.verb[0]}", lambda: run(qemu_argv), fresh=fresh)
        theirs, note = kept.cost, f" (qemu-img measured on this machine on {kept.when})"
        (ours,) = interleaved([ours_argv], runs)
    else:
        theirs, ours = interleaved([qemu_argv, ours_argv], runs)

    met = theirs is None or ours.code == theirs.code
    if not met:
        note += f" (exit codes differ: {theirs.code if theirs else ''} and {ours.code})"
    elif theirs is None and ours.code != 0:
        met, note = False, f" (ended with {ours.code})"
    targets = []
    if row.ratio is not None and theirs is not None:
        met &= theirs.wall / ours.wall >= row.ratio
        targets.append(f">= {row.ratio:g}x")
    if row.peak is not None:
        met &= ours.peak <= row.peak
        targets.append(f"<= {mib(row.peak)}")
    return Line(
        (
            row.what + note,
            seconds(theirs) if theirs else "-",
            seconds(ours),
            f"{theirs.wall / ours.wall:.1f}x" if theirs else "-",
            f"{theirs.cpu / ours.cpu:.1f}x" if theirs else "-",
            mib(ours.peak),
            ", ".join(targets),
        ),
        bool(met),
    )


def _info(folder: Path, runs: int) -> Line:
    """``info``: CPU of the whole process, and which heavy modules it loaded."""
    image = str(ready(rows.INFO_IMAGE, folder))
    runs = max(runs, 9)  # a few milliseconds each: more of them cost nothing
    run((OURS, "info", image))
    theirs, ours = interleaved([("qemu-img", "info", image), (OURS, "info", image)], runs)
    script = (
        "import sys\n"
        "from qcowtui.cli.main import main\n"
        f"code = main(['info', {image!r}])\n"
        f"print(*(name for name in {rows.INFO_NEVER_LOADS!r} if name in sys.modules), "
        "file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = done.stderr.split()
    met = ours.cpu <= rows.INFO_CPU and not loaded and done.returncode == ours.code == 0
    what = "info, CPU" + (f" (loads {', '.join(loaded)})" if loaded else "")
    return Line(
        (
            what,
            seconds(theirs),
            seconds(ours),
            f"{theirs.wall / ours.wall:.1f}x",
            f"{theirs.cpu / ours.cpu:.1f}x",
            mib(ours.peak),
            f"<= {rows.INFO_CPU * 1000:.0f} ms CPU, light",
        ),
        met,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Whole processes, start-up included, page cache warm, in turns with qemu-img; "
        "medians. Times are wall / CPU seconds, a ratio is qemu-img's wall time / ours.",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help='the row called so, or else the rows with these words in their name ("check")',
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="one run each")
    parser.add_argument(
        "--fresh", action="store_true", help="measure also what takes qemu-img minutes anew"
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare the answers instead of the times"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows and end")
    parser.add_argument(
        "--images",
        type=Path,
        default=default_folder(),
        metavar="FOLDER",
        help="where the images are kept (default: %(default)s)",
    )
    options = parser.parse_args()
    for words in options.only or ():
        if not any(wants([words], name) for name in _NAMES):
            parser.error(f"no row is called {words!r}; --list names them")
    return options


def wants(only: list[str] | None, name: str) -> bool:
    """Whether the row called ``name`` was asked for; every row was when ``only`` is None or empty.

    A name asks for its row alone, anything else for the rows in whose names it stands as whole
    words: "app" is no part of "snapshot-apply".
    """
    if not only:
        return True
    return any(words == name if words in _NAMES else f"-{words}-" in f"-{name}-" for words in only)


def main() -> int:
    """0 when every measured target is met, 1 otherwise."""
    options = _arguments()
    wanted = [row for row in ROWS if wants(options.only, row.name)]
    with_info = wants(options.only, rows.INFO)
    with_app = wants(options.only, rows.APP)
    if options.list:
        print(*_NAMES, sep="\n")
        return 0
    for program in (OURS, "qemu-img"):
        if shutil.which(program) is None:
            print(f"{program} is not installed", file=sys.stderr)
            return 1
    if options.verify:
        return _verify(wanted, options.images)
    runs = 1 if options.quick else options.runs
    earlier = Earlier(options.images)
    lines: list[Line] = []
    for row in wanted:
        print(f"{row.what} ...", file=sys.stderr)
        lines.append(_measured(row, options.images, runs, earlier, options.fresh))
    if wants(options.only, healing.NAME):
        print("triage ...", file=sys.stderr)
        lines.append(healing.line(OURS, options.images, runs))
    lines.extend(edits.lines(OURS, options.images, runs, partial(wants, options.only)))
    if with_info:
        lines.append(_info(options.images, runs))
    if with_app:
        print("the app ...", file=sys.stderr)
        map_image = ready(app.MAP_IMAGE, options.images)
        huge_image = ready(app.HUGE_IMAGE, options.images)
        lines.extend(app.lines(OURS, map_image, huge_image, runs))
    print(table(lines))
    return 0 if all(line.met for line in lines) else 1


def _verify(wanted: list[Row], folder: Path) -> int:
    """Both programs' answers on every image that qemu-img does not need minutes for."""
    differing = 0
    for row in wanted:
        if row.ratio is None or row.slow:
            continue
        same = agree(row.verb, ready(row.image, folder), OURS)
        print(f"{row.what}: {'the same answer' if same else 'THE ANSWERS DIFFER'}")
        differing += not same
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
