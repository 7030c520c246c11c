"""Steps are data: each edit gives a new value and leaves the old one as it was."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from sim.base.errors import ProgramError, SpecError
from topology.engines.sim import SimEngine
from topology.expansion import expand
from topology.program import Break, Continue, Program
from topology.steps import Loop, Par, Steps
from topology.tag import Role, Tag

BASE = Steps("load", Loop("fetch", Par("train", "watch"), "upload", until="done"), "save")


def test_edits_find_their_step_wherever_it_is() -> None:
    edited = BASE.before("fetch", "ask").after("upload", "log").replace("watch", "look", "listen").drop("save")
    loop = Loop("ask", "fetch", Par("train", "look", "listen"), "upload", "log", until="done")
    assert edited == Steps("load", loop)
    assert list(BASE.names()) == ["load", "fetch", "train", "watch", "upload", "save"]


def test_edits_undo_each_other_and_survive_a_process() -> None:
    assert BASE.before("train", "x").drop("x") == BASE
    assert BASE.replace("train", "x").replace("x", "train") == BASE
    assert pickle.loads(pickle.dumps(BASE)) == BASE  # noqa: S301  (it is our own)
    assert Steps("a", Loop("b", until="x")) != Steps("a", Loop("b", until="y"))
    assert Steps(Par("a", "b")) != Steps(Steps("a", "b"))


@pytest.mark.parametrize("edit", ["before", "after", "replace", "drop"])
def test_a_step_that_is_not_there_is_told(edit: str) -> None:
    with pytest.raises(SpecError, match=r"unknown step \('fecth'\); did you mean 'fetch'"):
        getattr(BASE, edit)("fecth")
    with pytest.raises(SpecError, match="ambiguous"):
        getattr(Steps("a", Loop("a", until="x")), edit)("a")


def test_a_loop_needs_a_body() -> None:
    with pytest.raises(SpecError, match="Loop: must not be empty"):
        Steps(Loop("a", until="x")).drop("a")


def run(program: type[Program]) -> Any:
    return SimEngine().run(expand(Tag((Role("one"),))), {"one": program}).results["one/0"]


class Counting(Program):
    steps = Steps("begin", Loop("count", "check", "note", until="enough"))

    def begin(self, io: Any) -> None:
        self.counted, self.noted = 0, []

    def count(self, io: Any) -> None:
        self.counted += 1

    async def check(self, io: Any) -> None:
        await io.sleep(0)

    def note(self, io: Any) -> None:
        self.noted.append((self.counted, io.now_ns))

    async def enough(self, io: Any) -> bool:
        return self.counted >= 3

    def result(self) -> Any:
        return self.noted


def test_a_loop_ends_at_the_end_of_its_body() -> None:
    assert run(Counting) == [(1, 0), (2, 0), (3, 0)]


def test_continue_and_break() -> None:
    class Skipping(Counting):
        async def check(self, io: Any) -> None:
            if self.counted == 2:
                raise Continue

    class Leaving(Counting):
        async def check(self, io: Any) -> None:
            if self.counted == 2:
                raise Break

    assert run(Skipping) == [(1, 0), (3, 0)]
    assert run(Leaving) == [(1, 0)]


def test_break_outside_of_a_loop_is_told() -> None:
    class Lost(Counting):
        steps = Steps("begin", "leave")

        def leave(self, io: Any) -> None:
            raise Break

    with pytest.raises(ProgramError, match="one/0, step leave: Continue or Break outside of a loop"):
        run(Lost)


def test_steps_side_by_side_take_the_time_of_the_longest() -> None:
    class Both(Program):
        steps = Steps(Par("short", Steps("long", "long")), "look")

        async def short(self, io: Any) -> None:
            await io.sleep(1)

        async def long(self, io: Any) -> None:
            await io.sleep(2)

        def look(self, io: Any) -> None:
            self.now_ns = io.now_ns

        def result(self) -> Any:
            return self.now_ns

    assert run(Both) == 4_000_000_000


def test_what_fails_side_by_side_fails_the_run() -> None:
    class Failing(Program):
        steps = Steps(Par("wait", "fail"))

        async def wait(self, io: Any) -> None:
            await io.sleep(1e6)

        async def fail(self, io: Any) -> None:
            await io.sleep(1)
            raise KeyError("gone")

    with pytest.raises(ProgramError, match=r"one/0, step \w+: raised KeyError: 'gone' \(test_steps.py:\d+, in fail\)"):
        run(Failing)
