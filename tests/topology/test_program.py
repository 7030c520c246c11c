"""`check_program`: shipped programs keep the contract; a broken one is named with its step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import topology
from sim.base.parameters import Parameters, Positive
from tests.topology import programs
from topology import Loop, Program, Steps, TagError, check_program


def classes(*modules: Any) -> list[type[Program]]:
    """The programs of some modules."""
    owners = {owner for module in modules for owner in vars(module).values() if isinstance(owner, type)}
    return sorted((owner for owner in owners if issubclass(owner, Program)), key=lambda owner: owner.__name__)


def test_the_front_door_leads_to_all_that_it_names() -> None:
    pytest.importorskip("ray", reason="one of the engines needs the extra [ray]")
    for name in topology.__all__:
        assert getattr(topology, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Enigne'"):
        _ = topology.Enigne  # type: ignore[attr-defined]


@pytest.mark.parametrize("program", classes(programs), ids=lambda owner: owner.__name__)
def test_programs_that_run_keep_the_contract(program: type[Program]) -> None:
    check_program(program)


def test_so_do_all_programs_of_federated_training() -> None:
    pytest.importorskip("torch", reason="programs that train need the extra [torch]")
    from federated import asynchronous, coordinated, cyclic, gossip, ring
    from federated import programs as classical

    found = classes(classical, asynchronous, coordinated, cyclic, gossip, ring)
    assert len(found) > 10
    for program in found:
        check_program(program)


class NoMethod(Program):
    steps = Steps("fetch", Loop("train", until="done"))

    def fetch(self, io: Any) -> None:
        pass


class NoIo(Program):
    steps = Steps("fetch")

    def fetch(self) -> None:
        pass


class Unassigned(Program):
    steps = Steps("fetch")
    function_tags = ("fetch", "upload")
    receives_first = ("fecth",)

    def fetch(self, io: Any) -> None:
        pass


class Misspelt(Program):
    steps = Steps("receive")
    function_tags = ("fetch",)

    async def receive(self, io: Any) -> None:
        await io["fecth"].recv()


class OneString(Program):
    function_tags: ClassVar[Any] = "fetch"


class OldSteps(Program):
    steps: ClassVar[Any] = ["fetch"]


@dataclass
class Negative(Parameters, Program):
    rate: Positive = -1.0


class Unrelated:
    pass


@pytest.mark.parametrize(
    ("program", "messages"),
    [
        (
            NoMethod,
            [
                "NoMethod.steps.train: no such method; define `async def train(self, io)`",
                (
                    "NoMethod.steps.until.done: no such method or attribute; "
                    "define `def done(self, io)` or a class attribute"
                ),
            ],
        ),
        (NoIo, ["NoIo.steps.fetch: must take io; define `async def fetch(self, io)`"]),
        (Unassigned, ["Unassigned.receives_first: unknown function tag ('fecth'); did you mean 'fetch'?"]),
        (Misspelt, ["Misspelt.steps.receive: unknown function tag ('fecth'); did you mean 'fetch'?"]),
        (OneString, ["OneString.function_tags: must be a tuple of strings ('fetch'); such as (\"fetch\",)"]),
        (OldSteps, ['OldSteps.steps: must be Steps ([\'fetch\']); such as Steps("fetch", "train")']),
        (
            Negative,
            [
                (
                    "Negative: the default parameters are invalid (SpecError: Negative.rate: is out of range (-1.0); "
                    "must be a finite number above 0)"
                )
            ],
        ),
        (Unrelated, ["Unrelated: not a subclass of Program"]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_program_is_named_with_its_step(program: Any, messages: list[str]) -> None:
    with pytest.raises(TagError) as caught:
        check_program(program)
    assert str(caught.value).splitlines() == messages
