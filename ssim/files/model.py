"""What the models of all files have in common."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from sim.base.parameters import PositiveInt


class Closed(BaseModel):
    """A part of a file: it knows its keys and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class JobSpec(Closed):
    """What every file that asks for runs begins with."""

    schema_: str = Field(alias="schema")
    """What kind of file this is."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the job, and of its folder in the results."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Seed of the first repeat; the others have seed + 1, seed + 2, ..."""
    repeats: PositiveInt = 1
    """Number of repeats, each with a seed of its own."""
    sweep: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}
    """Values to try by dotted key, such as `cluster.workers: [4, 8]`; several keys give all combinations."""


def known_keys(model: type[BaseModel], place: tuple[str | int, ...]) -> list[str]:
    """Return the keys that a model has where a place of its file ends; none where no model describes them.

    Args:
        model: The model of the whole file.
        place: Keys and list indices; the last one is the key in question.
    """
    found: type[BaseModel] | None = model
    for step in place[:-1]:
        if isinstance(step, int):
            continue  # entries of a list are described by the annotation of the list
        fields = {} if found is None else {field.alias or name: field for name, field in found.model_fields.items()}
        found = _model_in(fields[str(step)].annotation) if str(step) in fields else None
    return [] if found is None else [field.alias or name for name, field in found.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {Union, UnionType, tuple, Annotated}:
        return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
    return None
