"""The timer rings once, not early, at the instant that was set last."""

from __future__ import annotations

import asyncio
import time

from serving.timer import MonotonicTimer


def test_it_rings_at_the_last_instant_that_was_set_and_not_before() -> None:
    async def rung() -> tuple[int, int]:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        timer = MonotonicTimer(loop, done.set)
        now_ns = time.monotonic_ns()
        timer.set(now_ns + 1_000_000)
        timer.set(now_ns + 3_600_000_000_000)
        timer.set(None)
        timer.set(now_ns + 5_000_000)
        await done.wait()
        timer.close()
        return now_ns + 5_000_000, time.monotonic_ns()

    due_ns, rung_ns = asyncio.run(rung())
    assert rung_ns >= due_ns


def test_an_instant_that_has_passed_rings_at_once() -> None:
    async def rings() -> None:
        done = asyncio.Event()
        timer = MonotonicTimer(asyncio.get_running_loop(), done.set)
        timer.set(time.monotonic_ns() - 1)
        await done.wait()
        timer.close()

    asyncio.run(rings())
