"""What holds for every test: no deadlines that depend on the machine's load, a fixed time zone."""

from __future__ import annotations

import os
import time

from hypothesis import HealthCheck, settings

import tests.support.shared  # noqa: F401  (makes the folder that workers share)

settings.register_profile(
    "qcowtui", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("qcowtui")

os.environ["TZ"] = "UTC"
time.tzset()


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core: tests wait for QEMU, for locks and for idle screens half of the time."""
    return 2 * len(os.sched_getaffinity(0))
