"""What holds for every test: no deadlines that depend on the machine's load, a fixed time zone."""

from __future__ import annotations

import os
import time

from hypothesis import HealthCheck, settings

settings.register_profile(
    "qcowtui", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("qcowtui")

os.environ["TZ"] = "UTC"
time.tzset()
