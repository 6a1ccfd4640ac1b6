"""One check from start to end: count, compare, unpack, report."""

from __future__ import annotations

from ...findings import Severity
from ...image.image import Image
from ...jobs import CancelToken, ProgressCallback, Throttle
from .checker import Checker
from .collect import Collector
from .report import report
from .result import CheckResult
from .survey import survey


def run(
    image: Image,
    *,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    decode: bool,
) -> CheckResult:
    """See :func:`qcow.inspect.check.check`."""
    geometry = image.geometry
    if geometry is None:
        errors = sum(finding.severity is Severity.ERROR for finding in image.problems)
        return CheckResult(check_errors=max(1, errors), findings=image.problems)
    collector = Collector()
    tell = Throttle(progress)

    def check_cancel() -> None:
        if cancel is not None:
            cancel.check()

    found = survey(image, geometry, collector, check_cancel)
    checker = Checker(image, geometry, found, collector, tell, check_cancel)
    checker.run()
    total = sum(facts.compressed for facts in checker.facts)
    if decode and total:
        from .streams import StreamCheck  # most images need no decompressor

        def between(done: int) -> None:
            check_cancel()
            tell("unpacking compressed clusters", min(done, total), total)

        StreamCheck(image, geometry, found.space, collector).run(
            checker.windows, checker.facts, between
        )
        between(total)
    findings = report(image, geometry, collector, found, check_cancel)
    seen = sum(finding.severity is Severity.CORRUPTION for finding in image.problems)
    return CheckResult(
        corruptions=collector.corruptions,
        leaks=collector.leaks,
        check_errors=collector.check_errors,
        image_end_offset=(checker.highest + 1) << geometry.cluster_bits,
        total_clusters=geometry.clusters(image.virtual_size),
        allocated_clusters=checker.allocated,
        fragmented_clusters=checker.fragmented,
        compressed_clusters=checker.compressed,
        findings=findings,
        # What opening saw as damaged and qemu-img does not count.
        extra_corruptions=collector.extra_corruptions + max(0, seen - found.wrong_l1),
        extra_leaks=collector.extra_leaks,
    )
