"""A table above a floor of accuracy: the same cells, subnet by subnet."""

from __future__ import annotations

import numpy as np

from sim.tables.files import load_table
from sim.tables.floor import accurate_part
from sim.tables.law import LatencyLaw, planned
from sim.tables.service_times import service_times


def test_the_part_has_the_cells_of_the_whole_and_is_one_object() -> None:
    table = load_table("ofa-resnet50-a40")
    accuracies = sorted(subnet.accuracy for subnet in table.subnets)
    for floor in (0.0, accuracies[2], accuracies[-1]):
        part = accurate_part(table, floor)
        kept = [row for row, subnet in enumerate(table.subnets) if subnet.accuracy >= floor]
        assert [subnet.id for subnet in part.subnets] == [table.subnets[row].id for row in kept]
        assert np.array_equal(part.dense_ns, table.dense_ns[kept])
        for name, grid in table.uncertainty.items():
            assert np.array_equal(part.uncertainty[name], grid[kept])
        assert accurate_part(table, floor) is part
    assert accurate_part(table, 0.0) is table


def test_what_a_policy_plans_on_and_what_is_drawn_stay_those_of_the_subnets() -> None:
    law, table = LatencyLaw("lognormal"), load_table("ofa-resnet50-a40")
    seen = planned(table, "p99", law)
    part = accurate_part(seen, 79)
    kept = [row for row, subnet in enumerate(table.subnets) if subnet.accuracy >= 79]
    whole, mine = service_times(seen, law), service_times(part, law)
    assert np.array_equal(mine.fixed_ns, whole.fixed_ns[kept])
    assert np.array_equal(mine.smallest_ns, whole.smallest_ns[kept])
