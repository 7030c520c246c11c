"""`--set` and `sweep`, for files of every kind: each key of each model can be set, and a swept one can not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

pytest.importorskip("torch", reason="three of the four kinds need the extra [torch]")

from sim.base.errors import SpecError
from sim.tables.files import write_table
from sim.tables.latency import LatencyTable, ProfiledSubnet
from ssim.files.settings import put, put_settings
from ssim.jobs.job import KINDS, kind_of
from ssim.jobs.reading import job_of, read_job
from supernet.families import CnnSmall
from tests.test_docs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    "experiment/1": """\
schema: experiment/1
name: small
seed: 7
trace: {kind: poisson, mean_qps: 100, duration_s: 1, slo_ms: 36}
cluster: {workers: 2}
latency_table: ofa-resnet50-a40
policies: [slackfit]
""",
    "training/1": """\
schema: training/1
name: small
seed: 7
data: {kind: digits, train: 96}
family: {kind: cnn_small, width: 4}
start: null
batch: 32
phases: [{epochs: 1, rate: 0.1}]
search: {latency: {table: ofa-resnet50-a40}}
""",
    "federated/1": f"""\
schema: federated/1
name: small
seed: 7
topology: {ROOT / "topologies" / "classical.yaml"}
data: {{kind: digits, train: 96}}
family: {{kind: cnn_small, width: 4}}
rounds: 2
""",
    "profile/1": """\
schema: profile/1
name: small
supernet: cnn_small
subnets: subnets.parquet
""",
}
SWEPT = {
    "experiment/1": ("trace.mean_qps", [100, 200]),
    "training/1": ("family.width", [4, 8]),
    "federated/1": ("algorithm", ["fedavg", {"kind": "fedprox", "pull": 0.1}]),
    "profile/1": ("dtype", ["fp32", "bf16"]),
}


def written(folder: Path, schema: str) -> Path:
    if schema == "profile/1":
        subnets = (ProfiledSubnet("any", 60.0, CnnSmall().space.largest.control),)
        write_table(LatencyTable("none", subnets, (1,), np.ones((1, 1), np.int64)), folder / "subnets.parquet")
    path = folder / "small.yaml"
    path.write_text(FILES[schema])
    return path


def inner(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model in an annotation, and whether it is that of the entries of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for part in get_args(annotation):
        found, is_listed = inner(part)
        if found is not None:
            return found, is_listed or getattr(annotation, "__origin__", None) is tuple
    return None, False


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key of each field of a model and of the models in it, and its default; one of each list."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key, field.get_default(call_default_factory=True)
        found, is_listed = inner(field.annotation)
        if found is not None:
            yield from keys(found, f"{key}.0." if is_listed else f"{key}.")


EVERY_KEY = [(schema, key, default) for schema in KINDS for key, default in keys(kind_of(schema).model)]


def test_the_walk_finds_keys_at_all_depths() -> None:
    found = {schema: [key for one, key, _ in EVERY_KEY if one == schema] for schema in KINDS}
    assert {"cluster.faults.0.recover_s", "policies.0.params", "capacity.rate"} <= set(found["experiment/1"])
    assert {"phases.0.subnets", "search.latency.batch", "start.sha256"} <= set(found["training/1"])
    assert {"evaluation.every", "calibration.batch", "topology.faults"} <= set(found["federated/1"])


@pytest.mark.parametrize(("schema", "key"), [(schema, key) for schema, key, _ in EVERY_KEY])
def test_every_key_of_every_model_can_be_set(schema: str, key: str, tmp_path: Path) -> None:
    from ssim.files.yaml_file import read_yaml

    kind = kind_of(schema)
    content = kind.written_out(read_yaml(written(tmp_path, schema)).data)
    for listed in ("faults", "kinds"):
        if key.startswith(f"cluster.{listed}.0."):
            content["cluster"][listed] = [{}]
    if key.startswith("queues.0."):
        content["queues"] = [{"tables": [{}]}]
    assert put_settings(content, [f"{key}=here"], kind.model) == (key,)
    node = content
    for step in key.split("."):
        node = node[int(step) if isinstance(node, list) else step]
    assert node == "here"


GIVEN = ("start", "search", "cluster.faults.0.", "cluster.kinds.0.", "queues.0.", "planner.")
"""Sections that the files above have, and entries that they don't."""
REPLACED = {"cluster.workers", "latency_table", "trace"}
"""Keys that other keys may stand in for."""


def shown(default: Any) -> str:
    return json.dumps(to_jsonable_python(default))


@pytest.mark.parametrize("schema", sorted(set(KINDS) - {"profile/1"}))  # a profile's device is in its identity
def test_a_default_that_is_set_decides_nothing(schema: str, tmp_path: Path) -> None:
    """Reaches the models, too: what is set is what they would have put in."""
    path = written(tmp_path, schema)
    ids = [run.id for run in read_job(path).runs]
    settings = [
        f"{key}={shown(default)}"
        for one, key, default in EVERY_KEY
        if one == schema and default is not PydanticUndefined and not key.startswith(GIVEN) and key not in REPLACED
    ]
    assert len(settings) > 10
    for setting in settings:
        assert [run.id for run in read_job(path, [setting]).runs] == ids, setting
    assert [run.id for run in read_job(path, settings).runs] == ids


def test_what_is_set_in_one_file_is_not_set_in_the_next(tmp_path: Path) -> None:
    """What kinds fill in is shared by all files of the kind."""
    path = written(tmp_path, "training/1")
    assert read_job(path, ["calibration.subnets=4", "optimizer.momentum=0.5"]).spec.calibration.subnets == 4
    assert read_job(path).spec.calibration.subnets == 6
    assert read_job(path).runs[0].parts.recipe.optimizer.momentum != 0.5


@pytest.mark.parametrize("schema", KINDS)
def test_a_swept_key_can_not_be_set(schema: str, tmp_path: Path) -> None:
    key, values = SWEPT[schema]
    path = written(tmp_path, schema)
    with path.open("a") as file:
        file.write(f"sweep: {{{key}: {json.dumps(values)}}}\n")
    above = key.partition(".")[0]
    for hidden in {key, above, f"{key}.kind"}:
        with pytest.raises(SpecError, match=r"^--set: the key is swept \('") as caught:
            read_job(path, [f"{hidden}=3"])
        assert f"give --set sweep.{key}=[...], or remove it from `sweep`" in str(caught.value)
    job = read_job(path)
    assert job.swept == (key,)
    assert [run.swept for run in job.runs] == [{key: value} for value in values]
    assert len({run.id for run in job.runs}) == 2
    one = shown(values[1])
    assert [run.swept for run in read_job(path, [f"sweep.{key}=[{one}]"]).runs] == [{key: values[1]}]
    for order in ((f"{key}={one}", "sweep={}"), ("sweep=null", f"{key}={one}")):
        (run,) = read_job(path, order).runs
        assert run.swept == {}
        assert run.id == job.runs[1].id


def test_a_sweep_that_is_no_mapping_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "experiment/1")
    for value in ("5", "[1]", "text"):
        with pytest.raises(SpecError, match=r"^--set sweep: must be a mapping"):
            read_job(path, [f"sweep={value}"])
        with pytest.raises(SpecError, match=r"^--set: sweep has no keys|no such entry"):
            read_job(path, [f"sweep={value}", "sweep.cluster.workers=[1]"])
    with path.open("a") as file:
        file.write("sweep: null\n")
    assert len(read_job(path, ["sweep.cluster.workers=[1, 2]"]).runs) == 2


def test_values_of_a_sweep_do_not_run_into_each_other(tmp_path: Path) -> None:
    """A section that is swept and a key in it: each point has its own section."""
    path = written(tmp_path, "experiment/1")
    with path.open("a") as file:
        file.write("sweep: {cluster: [{workers: 1}, {workers: 3}], cluster.dispatch_ms: [0, 1, 2]}\n")
    found = [(run.spec.cluster.workers, run.spec.cluster.dispatch_ms) for run in read_job(path).runs]
    assert found == [(1, 0), (1, 1), (1, 2), (3, 0), (3, 1), (3, 2)]


@pytest.mark.parametrize(
    ("schema", "sweep", "says"),
    [
        ("experiment/1", "{cluster: [{workers: 1}, {workers: 0}]}", ":8:43: sweep.cluster.1.workers: must be greater"),
        (
            "experiment/1",
            "{policies.0: [maxacc, slakfit]}",
            ":8:30: sweep.policies.0.1.use: unknown policy",
        ),
        ("experiment/1", "{keep: [summary]}", ":8:9: sweep.keep: can't be swept"),
        ("training/1", "{family.width: [4, none]}", ":10:27: sweep.family.width.1: must be a whole number ('none')"),
        ("training/1", "{search.subnets: [3]}", ":10:9: sweep.search.subnets: can't be swept"),
        ("federated/1", "{rounds: [1, 0]}", ":8:21: sweep.rounds.1: must be greater than or equal to 1 (0)"),
        ("federated/1", "{seed: [1, 0]}", ":8:9: sweep.seed: can't be swept"),
        ("profile/1", "{minutes: [1, 2]}", ":5:9: sweep.minutes: can't be swept"),
    ],
)
def test_what_is_wrong_in_a_sweep_is_told_at_its_value(schema: str, sweep: str, says: str, tmp_path: Path) -> None:
    path = written(tmp_path, schema)
    with path.open("a") as file:
        file.write(f"sweep: {sweep}\n")
    with pytest.raises(SpecError) as caught:
        read_job(path)
    assert says in str(caught.value)


def test_keys_below_what_is_no_section_are_told() -> None:
    model = kind_of("experiment/1").model
    content: dict[str, Any] = {"seed": 7, "policies": [], "cluster": None}
    issue = put(content, "seed.x", 1, model)
    assert issue is not None
    assert str(issue) == "seed has no keys (seed.x)"
    issue = put(content, "policies.0.use", 1, model)
    assert issue is not None
    assert (issue.problem, issue.hint) == ("no such entry", "the list is empty")
    assert put(content, "cluster.workers", 3, model) is None
    assert content["cluster"] == {"workers": 3}


@pytest.mark.parametrize("said", ["[1]", "{a: 1}", "7", "null", "experimen/1"])
def test_a_schema_that_is_none_is_told(said: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"schema: {said}\n")
    for wanted in (None, *KINDS):
        with pytest.raises(SpecError, match=r"odd\.yaml:1:\d+: schema: (unknown schema|is missing)"):
            read_job(path, schema=wanted)


def test_content_without_a_file_is_checked_as_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^device: .*\n?supernet: is missing|supernet: is missing") as caught:
        job_of("profile/1", {"schema": "profile/1", "name": "x", "device": -1}, tmp_path)
    assert "device: " in str(caught.value)
