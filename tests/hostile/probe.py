"""Looking at images in processes of their own, measured by the kernel.

``python -m tests.hostile.probe`` reads requests from stdin, one JSON object a line, and answers
each with one line.  The engine is loaded and used once on healthy images; then every request is
served by a fork, whose CPU time and peak memory are what wait4() says of it.  So an image that
kills its reader, or eats memory, harms no other row, and a row costs milliseconds.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.opens import opened_files

#: Events of Python's audit hooks that looking at an image never causes.
_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.system",
)
#: Limits far above what is allowed, so that a failing row ends: seconds, seconds, bytes.
_CPU, _WALL, _MORE_MEMORY = 20, 60, 2 << 30
_READ = 64 << 10
_SNAPSHOTS = 3

#: What is counted by a check, as qemu-img's JSON has it.
COUNTS = (
    "corruptions",
    "leaks",
    "check-errors",
    "image-end-offset",
    "total-clusters",
    "allocated-clusters",
    "fragmented-clusters",
    "compressed-clusters",
)

Answer = dict[str, Any]
Work = Callable[[], Any]


class _Attempts:
    """Does work step by step, and notes what it raised."""

    def __init__(self) -> None:
        self.errors: list[Answer] = []

    def __call__(self, step: str, work: Work) -> Any:
        """What ``work`` returns, or None if it raised."""
        from qcow.errors import QcowError

        try:
            return work()
        except Exception as error:
            typed = isinstance(error, QcowError)
            kind = type(error).__name__
            self.errors.append({"step": step, "kind": kind, "typed": typed, "text": str(error)})
            return None

    def use(self, name: str, get: Work) -> str | None:
        """Map a whole disk and read its begin; the SHA-256 of that, or None."""
        disk = self(name, get)
        if disk is None:
            return None
        self(f"map {name}", lambda: sum(len(batch.start) for batch in disk.extents()))
        content = self(f"read {name}", lambda: disk.read(0, min(_READ, disk.virtual_size)))
        return None if content is None else hashlib.sha256(content).hexdigest()


def look(image: str, cut: int | None = None) -> Answer:
    """Open, check, map and read; what came out, as plain data.

    ``cut``: shorten the file to that many bytes once it is open.
    """
    import qcow
    from qcow.inspect.check import check

    attempt = _Attempts()
    answer: Answer = {"errors": attempt.errors}
    opened = attempt("open", lambda: qcow.open(image, format="qcow2"))
    if opened is None:
        return answer
    with opened:
        answer["problems"] = [_plain(finding) for finding in opened.problems]
        if cut is not None:
            os.truncate(image, cut)
        checked = attempt("check", lambda: check(opened))
        if checked is not None:
            answer["findings"] = [_plain(finding) for finding in checked.findings]
            answer["counts"] = {name: getattr(checked, name.replace("-", "_")) for name in COUNTS}
        answer["read"] = attempt.use("active", lambda: opened.active)
        for snapshot in opened.snapshots[:_SNAPSHOTS]:
            attempt.use("snapshot", partial(opened.snapshot_state, snapshot))
    return answer


def follow(image: str, policy: str) -> Answer:
    """Open an image and what lies below it as far as a gate lets it pass, map and read it.

    ``policy``: the name of the method of Gate that makes the gate.
    """
    import qcow
    from qcow.chain import open_chain
    from qcow.storage.gate import Gate

    attempt = _Attempts()
    answer: Answer = {"errors": attempt.errors}
    opened = attempt("open", lambda: qcow.open(image, format="qcow2"))
    if opened is None:
        return answer
    with opened:
        chain = attempt("follow", lambda: open_chain(opened, getattr(Gate, policy)()))
        if chain is None:
            return answer
        with chain:
            answer["layers"] = [layer.status.value for layer in chain.layers]
            answer["data_file"] = chain.layers[0].data_file_status.value
            answer["problems"] = [_plain(finding) for finding in chain.problems]
            answer["read"] = attempt.use("chain", lambda: chain)
    return answer


def _plain(finding: Any) -> Answer:
    kind = finding.kind
    texts = [finding.what, finding.structure, *finding.examples]
    texts += [kind.code, kind.title, kind.meaning, kind.consequence, kind.next_step]
    texts += [place.state for place in finding.guest_ranges]
    return {"code": finding.code, "severity": int(finding.severity), "texts": texts}


def _serve(request: Answer, out: int) -> None:
    """In the fork: look, and write what was seen."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU, _CPU))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.setitimer(signal.ITIMER_REAL, _WALL)
    events: list[str] = []

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            events.append(event)

    sys.addaudithook(hook)
    with opened_files() as opens:
        answer = follow(**request) if "policy" in request else look(**request)
    answer["opened"] = opens.besides(request["image"])
    answer["events"] = events
    with open(out, "w", encoding="utf-8", errors="surrogateescape") as pipe:
        json.dump(answer, pipe)


def _in_a_fork(request: Answer) -> Answer:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _serve(request, writer)
        except BaseException as error:
            print(f"{request}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="surrogateescape") as pipe:
        said = pipe.read()
    _, status, used = os.wait4(child, 0)
    answer: Answer = json.loads(said) if status == 0 else {}
    answer["exit"] = os.waitstatus_to_exitcode(status)
    answer["cpu"] = used.ru_utime + used.ru_stime
    answer["peak"] = used.ru_maxrss << 10
    return answer


def main() -> None:
    """The first line lists healthy images to warm up with; every further one is a request."""
    for image in json.loads(sys.stdin.readline()):
        look(image)
        follow(image, "own_folder")
    gc.collect()
    gc.freeze()  # so that a fork's collections do not copy what it shares
    for line in sys.stdin:
        print(json.dumps(_in_a_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
