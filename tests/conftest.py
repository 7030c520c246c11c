"""How the tests run.

Hypothesis draws the same cases in CI every time, and never fails for being slow. A shell starts what runs in the
background with Ctrl-C ignored, and what the tests start would inherit that: here it is heard again.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

signal.signal(signal.SIGINT, signal.default_int_handler)
