"""What every verb that changes an image has in common: from its action to words and exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from qcow.errors import Cancelled, ChangedError, EditRefused, LockedError, QcowError, UsageError
from qcow.text import safe

from . import exit_codes
from .interrupts import cancelled_by_ctrl_c
from .opening import gate_of, lock_mode, not_opened, open_named, opened, who_holds
from .options import (
    FOLLOW,
    FORCE_SHARE,
    FORMAT,
    IMAGE_OPTS,
    OBJECT,
    OUTPUTS,
    QUIET,
    Arguments,
    CommandError,
    Option,
    wants_json,
)
from .output import Output
from .progress import progress_events, progress_line, progress_log

if TYPE_CHECKING:
    from qcow.edit.apply import Action, Change
    from qcow.edit.mending import Mending
    from qcow.edit.plan import ImageMark, Plan
    from qcow.jobs import CancelToken, ProgressCallback
    from qcow.opening import AnyImage

DRY_RUN: Final = Option("dry-run", "n", help="Print what would be done and what for; write nothing")
YES: Final = Option("yes", "y", help="Do not ask, even where something can be lost")
PROGRESS: Final = Option(
    "progress",
    "p",
    "jsonl",
    "Say on standard error how far it is; with =jsonl as lines of JSON",
    optional=True,
)
NETWORK: Final = Option(
    "allow-network",
    help="Also on a network file system, where no other machine uses the image",
)
NO_UNDO: Final = Option("no-undo", help="Keep no way back; what could be undone before is given up")
SHARED: Final = FORCE_SHARE._replace(
    help="With --dry-run: plan even while a program writes to the image"
)
_FORMAT: Final = FORMAT._replace(help="The image's format; only qcow2 images can be changed")
#: What every verb that changes an image understands.
EDITING: Final = (
    DRY_RUN,
    YES,
    *OUTPUTS,
    PROGRESS,
    QUIET,
    FOLLOW,
    NETWORK,
    NO_UNDO,
    _FORMAT,
    SHARED,
    OBJECT,
    IMAGE_OPTS,
)
BACKING: Final = Option("backing", "b", "FILE", 'The new backing file; "" for none')
BACKING_FORMAT: Final = Option("backing-format", "F", "FMT", "Its format: qcow2 or raw")
CHANGE_SNAPSHOTS: Final = Option(
    "change-snapshots", help="Even where internal snapshots would read differently"
)
#: For the ``exits`` of such a verb.
EXITS: Final = (
    (1, "it could not be done, or the answer was no; the image is as it was"),
    (exit_codes.INTERRUPTED, "interrupted (Ctrl-C)"),
)


class Interrupted(QcowError):
    """Ctrl-C ended a change; the message says what was done by then."""

    exit_code: ClassVar[int] = exit_codes.INTERRUPTED


class _Wishes(NamedTuple):
    json: bool
    dry_run: bool
    quiet: bool
    yes: bool
    #: None: only for a person who watches.
    progress: str | None


def change(
    path: str,
    arguments: Arguments,
    output: Output,
    make: Callable[[], Sequence[Action]],
    *,
    asks: bool = False,
    always_asks: bool = False,
    mending: Mending | None = None,
) -> int:
    """Plan or apply the actions that ``make`` gives, and say what was done; the exit code.

    ``make`` is called after the options were found right, for what it needs is slow to load.
    ``asks``: something may be lost, so that a person at a terminal is asked before;
    ``always_asks``: also where nothing is lost.  ``mending``: how a file is seen that lost its
    header.
    """
    wishes = _wishes(path, arguments)
    actions = make()
    if wishes.dry_run:
        _report(_planned(path, actions, arguments, output, wishes, mending), path, output, wishes)
        return exit_codes.OK
    planned_on, shown = None, False
    if (asks or always_asks) and not wishes.yes:
        from .confirming import confirmed, somebody_to_ask
        from .plan_output import plan_lines

        if somebody_to_ask():
            plans = _planned(path, actions, arguments, output, wishes, mending)
            if any(
                (always_asks or plan.outcome.loses) and not plan.changes_nothing for plan in plans
            ):
                shown = True
                output.diagnostic(
                    "\n".join(row for plan in plans for row in plan_lines(plan, path))
                )
                if not confirmed(plans, output):
                    output.diagnostic("Nothing was changed.")
                    return exit_codes.ERROR
            planned_on = plans[0].on
    plans = _applied(path, actions, planned_on, arguments, output, wishes, mending)
    undo = not arguments.has(NO_UNDO.key)
    _report(plans, path, output, wishes, shown=shown, undo=undo)
    return exit_codes.OK


def carried_out(
    path: str,
    actions: Sequence[Action],
    planned_on: ImageMark,
    arguments: Arguments,
    output: Output,
) -> list[Plan]:
    """Apply ``actions`` to the image that ``planned_on`` marks; nothing is asked, nothing said.

    Raises as :func:`change` does, ChangedError when it is no longer that image.
    """
    wishes = _wishes(path, arguments)
    return _applied(path, actions, planned_on, arguments, output, wishes)


def _wishes(path: str, arguments: Arguments) -> _Wishes:
    progress = arguments.get(PROGRESS.key)
    if progress not in (None, "", "jsonl"):
        raise CommandError("--progress stands alone or with jsonl as argument.")
    format = arguments.get(FORMAT.key)
    if format not in (None, "qcow2"):
        raise EditRefused(f"Only qcow2 images can be changed, not '{safe(format)}' ones (-f).")
    dry_run = arguments.has(DRY_RUN.key)
    if arguments.has(FORCE_SHARE.key) and not dry_run:
        raise UsageError(
            f"Could not open '{safe(path)}': force-share=on can only be used with read-only images"
            "\nWith --dry-run, which writes nothing, -U can be used."
        )
    return _Wishes(
        wants_json(arguments), dry_run, arguments.has(QUIET.key), arguments.has(YES.key), progress
    )


def _planned(
    path: str,
    actions: Sequence[Action],
    arguments: Arguments,
    output: Output,
    wishes: _Wishes,
    mending: Mending | None,
) -> list[Plan]:
    """What the actions would do, one after the other.  Nothing is written."""
    from qcow.edit.apply import Preview
    from qcow.edit.journal_place import pending
    from qcow.image.image import Image

    with (
        _looked_at(path, arguments, mending) as image,
        _working(output, wishes) as (tell, cancel),
    ):
        if not isinstance(image, Image) and mending is None:
            raise EditRefused(
                f"'{safe(path)}' is a {image.format} image; only qcow2 images can be changed."
            )
        if waiting := pending(path):
            raise EditRefused(
                f"{waiting.what} The next change completes it first; it cannot be planned."
            )
        gate = gate_of(arguments)
        with Preview(image, mending=mending, gate=gate, progress=tell, cancel=cancel) as preview:
            return [preview.add(action) for action in actions]


def _looked_at(
    path: str, arguments: Arguments, mending: Mending | None
) -> AbstractContextManager[AnyImage]:
    if mending is None:
        return opened(path, arguments)
    return open_named(path, "raw", lock_mode(arguments))


def _applied(
    path: str,
    actions: Sequence[Action],
    planned_on: ImageMark | None,
    arguments: Arguments,
    output: Output,
    wishes: _Wishes,
    mending: Mending | None = None,
) -> list[Plan]:
    from qcow.edit.apply import open_for_change

    with _working(output, wishes) as (tell, cancel):
        try:
            held = open_for_change(
                path,
                also=tuple({depth for action in actions for depth in action.writes_below}),
                mending=mending,
                gate=gate_of(arguments),
                allow_network=arguments.has(NETWORK.key),
                keep_history=not arguments.has(NO_UNDO.key),
                progress=tell,
                cancel=cancel,
            )
        except (EditRefused, ChangedError, Cancelled):
            raise
        except LockedError as error:
            raise not_opened(path, error, *who_holds(path)) from error
        except QcowError as error:
            raise not_opened(path, error) from error
        with held:
            _tell_about(held, output, wishes)
            if planned_on is not None:
                held.require(planned_on)
            done: list[Plan] = []
            try:
                for action in actions:
                    done.append(held.run(action))
            except Exception as error:
                if held.editor.switches or any(plan.switches for plan in done):
                    _explain(error, path)
                raise
            return done


def _explain(error: Exception, path: str) -> None:
    """Let the error tell that a part of the work is done, which nobody would expect."""
    from .plan_output import typed

    error.add_note(
        "A part of the work was done before. The image is complete and sound; "
        f"`{typed('qcowtui', 'history', path)}` lists what can be taken back."
    )


@contextmanager
def _working(
    output: Output, wishes: _Wishes
) -> Iterator[tuple[ProgressCallback | None, CancelToken]]:
    """The two ends of long work, for the time of the block.  Raises Interrupted for Cancelled."""

    def told() -> None:
        if not wishes.quiet:
            below = "\n" if output.errors_to_terminal else ""  # the line with ^C in it
            output.diagnostic(
                f"{below}Stopping where nothing is half done; Ctrl-C again ends at once."
            )

    with cancelled_by_ctrl_c(told) as cancel, _progress(output, wishes) as tell:
        try:
            yield tell, cancel
        except KeyboardInterrupt as error:
            raise Interrupted(
                "Interrupted at once. The image is whole, either as it was or as it was to be: "
                "`qcowtui history` shows which."
            ) from error
        except Cancelled as error:
            notes = getattr(error, "__notes__", [])
            raise Interrupted(
                " ".join(["Interrupted:", *(notes or ["nothing was changed."])])
            ) from error


@contextmanager
def _progress(output: Output, wishes: _Wishes) -> Iterator[ProgressCallback | None]:
    if wishes.progress == "jsonl":
        yield progress_events(output)
    elif wishes.quiet:
        yield None
    elif wishes.progress is not None and not output.errors_to_terminal:
        yield progress_log(output)
    else:
        with progress_line(output) as tell:
            yield tell


def _tell_about(held: Change, output: Output, wishes: _Wishes) -> None:
    """What happened at the opening and should be known."""
    if wishes.quiet:
        return
    recovered = held.recovered
    if recovered is not None and recovered.action:
        output.diagnostic(
            f"An earlier change that was interrupted was completed first: {safe(recovered.action)}"
        )
    for reader in held.access.report.readers:
        output.diagnostic(
            f"Note: {safe(reader.command)} (process {reader.pid}) has the image open for reading; "
            "what it shows may be out of date afterwards."
        )


def _report(
    plans: Sequence[Plan],
    path: str,
    output: Output,
    wishes: _Wishes,
    *,
    shown: bool = False,
    undo: bool = False,
) -> None:
    if wishes.json:
        from .qemu_json import Json, dumps

        found: list[Json] = [{**plan.to_json(), "applied": not wishes.dry_run} for plan in plans]
        output.line(dumps(found[0] if len(found) == 1 else found))
        return
    if wishes.quiet:
        return
    from .plan_output import plan_lines, result_lines

    for plan in plans:
        if wishes.dry_run:
            output.lines(plan_lines(plan, path))
        else:
            last = plan is plans[-1]
            output.lines(result_lines(plan, path, shown=shown, undo=undo and last))
    if wishes.dry_run:
        output.line("Nothing was written (--dry-run).")
