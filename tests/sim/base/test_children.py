"""Processes of ours never see Ctrl-C, not even while they start."""

from __future__ import annotations

import os
import signal

import pytest

from sim.base.children import interrupts_blocked
from ssim.execution.backends.local import processes


def blocked() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_pool_starts_processes_that_ctrl_c_does_not_reach() -> None:
    with processes(1, "test") as submit:
        assert submit(blocked).result()
    assert not blocked()


def test_an_interrupt_that_is_held_back_comes_afterwards() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_blocked():
        os.kill(os.getpid(), signal.SIGINT)
