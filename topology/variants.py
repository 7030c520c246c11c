"""Which workers of a role run one of its variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.base.errors import did_you_mean
from sim.base.streams import stream
from topology.flaws import Flaw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topology.plan import Plan, RoleWorkers


def variant_counts(workers: RoleWorkers) -> dict[str, int]:
    """Return how many workers of a role run each of its variants."""
    variants = workers.role.variants
    return {
        name: len(variant.datasets) if variant.share is None else round(variant.share * len(workers))
        for name, variant in variants.items()
    }


def variant_flaws(workers: RoleWorkers) -> Iterator[Flaw]:
    """Yield the variants of a role that do not fit its workers."""
    role, counts, total = workers.role, variant_counts(workers), len(workers)
    known = {data.id for data in workers.datasets}
    for name, variant in role.variants.items():
        place: tuple[str, ...] = ("roles", role.name, "variants", name)
        if variant.share and not counts[name]:
            hint = f"more than {0.5 / total:g} for 1 worker, or 0" if total else "the role has no workers"
            yield Flaw((*place, "share"), f"is rounded to 0 workers of {total}", f"{variant.share:g}", hint)
        for number, id_ in enumerate(variant.datasets if role.data else ()):
            if id_ not in known:
                hint = did_you_mean(id_, sorted(known))
                yield Flaw((*place, "datasets", number), f"not a dataset of {role.name}", repr(id_), hint)
    if sum(counts.values()) > total:
        place, value = ("roles", role.name, "variants"), str(sum(counts.values()))
        yield Flaw(place, f"need more workers than the {total} of the role", value, "smaller shares")


def drawn_variants(plan: Plan, seed: int) -> dict[str, str]:
    """Return the variants of the workers that run one, by their id: the same in each process.

    Of two shares, the workers of the smaller one are among those of the larger one.

    Args:
        plan: All workers.
        seed: The seed of the run.
    """
    drawn: dict[str, str] = {}
    for name, workers in plan.roles.items():
        variants = workers.role.variants
        if not variants:
            continue
        of_dataset = {id_: variant for variant, given in variants.items() for id_ in given.datasets}
        named = [(number, of_dataset.get(data.id, "")) for number, data in enumerate(workers.datasets)]
        chosen = {number: variant for number, variant in named if variant}
        order = stream(seed, f"variants {name}").permutation(len(workers)).tolist()
        free = iter([number for number in order if number not in chosen])
        for variant, count in variant_counts(workers).items():
            if variants[variant].share is not None:
                chosen |= {next(free): variant for _ in range(count)}
        drawn |= {f"{name}/{number}": chosen[number] for number in sorted(chosen)}
    return drawn
