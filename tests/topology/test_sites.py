"""Where workers run for real: each at one site, with what it needs, or a message that says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.base.errors import SpecError
from tests.topology import cases
from topology.deployment import Dataset, Machine
from topology.expansion import expand
from topology.flaws import TagError
from topology.sites import DeploymentSite as Site
from topology.sites import processes_at, spread

TREE = expand(cases.hierarchical(("eu", "na")), cases.data(eu=3, na=2))


def test_workers_of_one_machine_share_a_process() -> None:
    datasets = [Dataset(f"d{k}", "trainer", compute=f"m{k % 2}") for k in range(6)]
    plan = expand(cases.classical(), datasets, [Machine("m0"), Machine("m1")])
    processes = {id_: process for process in spread(plan, plan.workers, 2) for id_ in process.workers}
    assert {processes[f"trainer/{k}"].workers for k in (0, 2, 4)} == {processes["trainer/0"].workers}
    assert processes["trainer/0"] is not processes["trainer/1"]


@given(
    st.permutations(["eu", "na", "cloud"]),
    st.integers(1, 4),
    st.sampled_from([{"groups": ("na",)}, {"datasets": ("na*", "extra")}, {"datasets": ("na0", "na1")}]),
)
def test_each_worker_has_one_process(order: list[str], processes: int, na: dict[str, Any]) -> None:
    datasets = [Dataset(f"{group}{n}", "trainer", group) for group in ("eu", "na") for n in range(3)]
    datasets[-1] = Dataset("extra", "trainer", "na")
    plan = expand(cases.hierarchical(("eu", "na")), datasets)
    by_name = {
        "eu": Site("eu", groups=("eu",), datasets=("extra",) if na.get("datasets") == ("na0", "na1") else ()),
        "na": Site("na", roles=("mid", "trainer"), processes=processes, gpus=0.25, **na),
        "cloud": Site("cloud", roles=("top",)),
    }
    processes = processes_at(plan, [by_name[name] for name in order])
    everybody = [id_ for process in processes for id_ in process.workers]
    assert sorted(everybody) == sorted(worker.id for worker in plan.workers)
    at = {id_: process.site.name for process in processes for id_ in process.workers if process.site is not None}
    assert at["top/0"] == "cloud"
    assert {at[w.id] for w in plan.workers if w.dataset and w.dataset.id.startswith("na")} == {"na"}
    assert {at[w.id] for w in plan.workers if w.dataset and w.dataset.id.startswith("eu")} == {"eu"}
    assert {process.needs.get("gpu") for process in processes if process.site is by_name["na"]} == {0.25}


@pytest.mark.parametrize(
    ("sites", "told"),
    [
        (
            [Site("a", roles=("trainer", "mid"))],
            r"sites: no site for 1 of 8 workers \(top/0\); add their role",
        ),
        ([Site("a", roles=("trainer", "mid", "top", "tpo"))], r"a.roles.3: unknown role \('tpo'\)"),
        (
            [Site("a", roles=("trainer", "mid", "top"), groups=("ue",))],
            r"a.groups.0: unknown group .'ue'.; known: default, eu, na",
        ),
        ([Site("a", roles=("trainer", "mid", "top"), datasets=("x*",))], r"datasets.0: matches no dataset"),
        (
            [Site("a", roles=("trainer", "mid", "top")), Site("b", roles=("top",))],
            r"sites.b: top/0 would run at several sites \(a, b\)",
        ),
        (
            [Site("a", roles=("top",), groups=("eu", "na")), Site("b", roles=("trainer",))],
            r"sites.b: no worker runs here",
        ),
    ],
)
def test_what_is_wrong_is_told_by_place(sites: list[Site], told: str) -> None:
    with pytest.raises(TagError, match=told):
        processes_at(TREE, sites)


def test_a_machine_is_at_one_site() -> None:
    datasets = [Dataset(id_, "trainer", compute="m") for id_ in ("a", "b")]
    plan = expand(cases.classical(), datasets, [Machine("m")])
    sites = [Site("x", roles=("aggregator",), datasets=("a",)), Site("y", datasets=("b",))]
    with pytest.raises(TagError, match=r"workers of the machine 'm' would run at several sites \(x, y\)"):
        processes_at(plan, sites)


def test_what_a_site_cannot_have() -> None:
    with pytest.raises(SpecError, match=r"DeploymentSite.labels: not used with node"):
        Site("a", node="x", labels={"region": "eu"})
    with pytest.raises(SpecError, match=r"DeploymentSite.resources: has a key of its own \(gpu\); use gpus"):
        Site("a", resources={"GPU": 1.0})
    with pytest.raises(SpecError, match=r"gpus"):
        Site("a", gpus=-1.0)
