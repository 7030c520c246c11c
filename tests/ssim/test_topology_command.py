"""`ssim topology`, and the files it reads: what is wrong is told by line."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ssim.files.topology_file import read_topology
from ssim.files.yaml_file import read_yaml
from tests.ssim.in_process import ssim

GOOD = """\
schema: topology/1
name: mine
roles:
  trainer: {data: true, program: "mine:Trainer", config: {lr: 0.5}}
  server: {program: "mine:Server"}
channels:
  param:
    pair: [trainer, server]
    groups: [eu, na]
    verbs: {trainer: [fetch], server: [spread]}
    select: {server: {use: random, params: {k: 1}}}
    link: {latency_ms: 2, bandwidth_mbps: {trainer: 10}}
datasets:
  trainer:
    eu: [a, {id: b, size: 5, ref: here, compute: site}]
    na: {count: 3, size: 7}
computes:
  site: {speed: 2, slots: 1}
faults:
  - {worker: trainer/1, slow: 3}
"""

PROGRAMS = """\
from dataclasses import dataclass

from sim.base.parameters import Positive
from topology.program import Program
from topology.steps import Steps


@dataclass
class Trainer(Program):
    steps = Steps("fetch")
    function_tags = ("fetch",)
    receives_first = ("fetch",)
    lr: Positive = 0.1

    async def fetch(self, io):
        await io["fetch"].recv()


@dataclass
class Server(Program):
    steps = Steps("spread")
    function_tags = ("spread",)

    async def spread(self, io):
        await io["spread"].broadcast(1)


@dataclass
class Shy(Server):
    receives_first = ("spread",)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))  # each test has a module of this name in a folder of its own
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(PROGRAMS)
    (tmp_path / "mine.yaml").write_text(GOOD)
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "mine.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_file_is_what_it_says(mine: Path) -> None:
    found = read_topology(mine / "mine.yaml")
    assert [worker.id for worker in found.plan.workers] == ["server/0", "server/1", *(f"trainer/{k}" for k in range(5))]
    second = found.plan.worker("trainer/1")
    assert (second.compute, second.dataset.size, second.at) == ("site", 5, {"param": "eu"})  # type: ignore[union-attr]
    assert [found.plan.worker(f"trainer/{k}").dataset.id for k in (2, 4)] == ["trainer-na-0", "trainer-na-2"]  # type: ignore[union-attr]
    assert found.faults[0].slow == 3
    assert found.tag.channel("param").link.egress_mbps("trainer") == 10
    assert found.tag.channel("param").link.egress_mbps("server") is None


def test_check_says_that_all_fits(mine: Path) -> None:
    ended = ssim(mine, "topology", "check", "mine.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "mine: 2 roles, 1 channel, 7 workers",
        "    server: 2 workers; param with trainer in 2 groups",
        "    trainer: 5 workers; param with server in 2 groups",
        "the programs fit",
    ]


WRONG = [
    ("name: mine", "nmae: mine", "2:1: nmae: unknown key; did you mean 'name'?"),
    ("topology/1", "topology/2", "1:9: schema: must be 'topology/1' ('topology/2'); schema: topology/1"),
    ("lr: 0.5", "lr: -1", "4:63: roles.trainer.config.lr: must be greater than 0 (-1)"),
    ("lr: 0.5", "rl: 1", "4:59: roles.trainer.config.rl: unknown parameter of Trainer; known: lr"),
    ("mine:Server", "mine:Sever", "5:21: roles.server.program: mine has no class of this name ('Sever'); did you mean"),
    (
        "mine:Server",
        "mine:Shy",
        "8:11: channels.param.pair: deadlock: each of these roles receives from the next before it sends",
    ),
    (', program: "mine:Trainer"', "", "4:12: roles.trainer: no program; program: module:Class"),
    ("data: true", "data: 3", "4:19: roles.trainer.data: must be a valid boolean (3)"),
    ("[trainer, server]", "[trainer, servre]", "8:21: channels.param.pair.1: unknown role ('servre')"),
    ("groups: [eu, na]", "groups: []", "9:13: channels.param.groups: is empty"),
    (
        "server: [spread]",
        "server: [sprd]",
        "10:40: channels.param.verbs.server.0: not a function tag of the program",
    ),
    ("use: random", "use: randm", "11:22: channels.param.select.server: unknown selector ('randm')"),
    (
        "{k: 1}",
        "{n: 1}",
        "11:48: channels.param.select.server.params.n: unknown parameter of the selector random",
    ),
    ("trainer: 10", "trainr: 10", "12:52: channels.param.link.bandwidth_mbps.trainr: not a role of this channel"),
    (
        "latency_ms: 2",
        "latency_ms: -2",
        "12:24: channels.param.link.latency_ms: must be greater than or equal to 0 (-2)",
    ),
    ("eu: [a,", "uk: [a,", "15:9: datasets.trainer.uk: 2 datasets of an unknown group ('uk')"),
    ("[a,", "[b,", "14:3: datasets: duplicate ids (b)"),
    ("count: 3", "count: 0", "16:17: datasets.trainer.na.count: must be a number of datasets (0); from 1 to 10000000"),
    ("{count: 3, size: 7}", "x", "16:9: datasets.trainer.na: must be a list ('x')"),
    ("compute: site", "compute: sight", "15:9: datasets.trainer.eu: unknown machine of b ('sight')"),
    ("slots: 1", "slots: 0", "18:27: computes.site.slots: must be greater than or equal to 1 (0)"),
    ("trainer/1", "trainer/9", "20:14: faults.0.worker: unknown worker ('trainer/9'); server/0 to server/1"),
    ("slow: 3", "slwo: 3", "20:25: faults.0.slwo: unknown key; did you mean 'slow'?"),
    ("roles:\n", "roles: [a]\nroles:\n", "4:1: duplicate key ('roles')"),
]


@pytest.mark.parametrize(("old", "new", "told"), WRONG, ids=[new.strip() for _, new, _ in WRONG])
def test_what_is_wrong_is_told_by_line(mine: Path, old: str, new: str, told: str) -> None:
    from sim.base.errors import SpecError
    from ssim.files.topology_file import programs_of

    change(mine, old, new)
    with pytest.raises(SpecError) as caught:
        programs_of(mine / "mine.yaml", read_topology(mine / "mine.yaml"))
    assert f"mine.yaml:{told}" in str(caught.value)


def test_an_error_in_a_program_names_its_file_and_line(mine: Path) -> None:
    from sim.base.errors import ProgramError
    from ssim.files.topology_file import programs_of
    from topology import SimEngine

    (mine / "mine.py").write_text(PROGRAMS.replace("broadcast(1)", "broadcast(1 + io.worker.id)"))
    found = read_topology(mine / "mine.yaml")
    line = 1 + PROGRAMS[: PROGRAMS.index("broadcast(1)")].count("\n")
    with pytest.raises(
        ProgramError, match=rf"server/\d, step spread: raised TypeError: .* \(mine.py:{line}, in spread\)"
    ):
        SimEngine().run(found.plan, programs_of(mine / "mine.yaml", found))


def test_errors_are_a_line_each_and_exit_code_two(mine: Path) -> None:
    change(mine, "pair: [trainer, server]", "pair: [trainer, x]")
    change(mine, "name: mine", "nmae: mine")
    ended = ssim(mine, "topology", "check", "mine.yaml")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    change(mine, "nmae: mine", "name: mine")
    ended = ssim(mine, "topology", "expand", "mine.yaml")
    assert ended.returncode == 2
    assert all(line.startswith("ssim: mine.yaml:") for line in ended.stderr.splitlines())


def test_expand_writes_and_prints_workers(mine: Path) -> None:
    assert ssim(mine, "topology", "expand", "mine.yaml", "-o", "workers.csv").returncode == 0
    rows = list(csv.DictReader((mine / "workers.csv").read_text().splitlines()))
    assert [row["id"] for row in rows[-2:]] == ["trainer/3", "trainer/4"]
    assert rows[3] == {
        "id": "trainer/1",
        "role": "trainer",
        "at": "param=eu",
        "dataset": "b",
        "size": "5",
        "compute": "site",
    }
    printed = ssim(mine, "topology", "expand", "mine.yaml").stdout
    assert printed.count("trainer/") == 5
    change(mine, "count: 3", "count: 300")
    assert "... 291 more of trainer" in ssim(mine, "topology", "expand", "mine.yaml").stdout
    assert ssim(mine, "topology", "expand", "mine.yaml", "-o", "workers.txt").returncode == 2


def test_draw_and_diff(mine: Path) -> None:
    for words in (("-o", "a.png"), ("--workers", "-o", "b.svg"), ("-o", "c.mmd")):
        assert ssim(mine, "topology", "draw", "mine.yaml", *words).returncode == 0
    assert (mine / "a.png").stat().st_size > 1000
    assert (mine / "c.mmd").read_text().startswith("flowchart BT\n")
    assert ssim(mine, "topology", "draw", "mine.yaml", "-o", "a.gif").returncode == 2
    (mine / "old.yaml").write_text((mine / "mine.yaml").read_text())
    change(mine, "latency_ms: 2", "latency_ms: 3")
    ended = ssim(mine, "topology", "diff", "old.yaml", "mine.yaml")
    assert ended.stdout.splitlines() == [
        "- channels.param.link.latency_ms: 2.0",
        "+ channels.param.link.latency_ms: 3.0",
        "from mine to mine: +1 -1 lines",
    ]


# A coordinated topology and its data, in the form of Flame's schemas (api/design_components.partials.yml).
FLAME: dict[str, Any] = {
    "name": "coordinated",
    "roles": [
        {"name": "trainer", "isDataConsumer": True, "replica": 1, "groupAssociation": [{"param": "red", "ctl": "x"}]},
        {"name": "middle", "replica": 2, "groupAssociation": [{"param": "red", "ctl": "x"}]},
    ],
    "channels": [
        {
            "name": "param",
            "pair": ["trainer", "middle"],
            "groupBy": {"type": "tag", "value": ["red"]},
            "funcTags": {"trainer": ["fetch"], "middle": ["distribute"]},
            "backend": "mqtt",
            "brokerHost": "somewhere",
        },
        {
            "name": "ctl",
            "pair": ["trainer", "middle"],
            "groupBy": {"type": "tag", "value": ["x"]},
            "description": "who",
        },
    ],
    "connectors": [],
}
SPEC = [{"role": "trainer", "datasetGroups": {"red": ["641c67", "641c68"]}}]


def test_import_takes_flames_files(mine: Path) -> None:
    (mine / "schema.json").write_text(json.dumps(FLAME))
    (mine / "data.json").write_text(json.dumps(SPEC))
    ended = ssim(mine, "topology", "import", "schema.json", "--data", "data.json", "-o", "new.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "left out: connectors",
        "left out: channels.param.brokerHost",
        "filled in: no programs: trainer, middle have other funcTags",
        "4 workers of schema.json: new.yaml",
    ]
    found = read_topology(mine / "new.yaml")
    assert [worker.id for worker in found.plan.workers] == ["middle/0", "middle/1", "trainer/0", "trainer/1"]
    param = found.tag.channel("param")
    assert (param.backend, param.groups, param.verbs["trainer"]) == ("mqtt", ("red",), ("fetch",))
    assert found.tag.channel("ctl").description == "who"
    ended = ssim(mine, "topology", "import", "schema.json", "-o", "other.yaml")
    assert "filled in: datasets.trainer: one a group" in ended.stdout
    assert len(read_topology(mine / "other.yaml").plan) == 3


@pytest.mark.parametrize(
    ("schema", "data", "told"),
    [
        ("{", None, "schema.json:1:2: is not valid JSON"),
        ("[]", None, "schema.json:1:1: roles: must be a list (NoneType)"),
        ('{"roles": [{}], "channels": []}', None, "schema.json:1:12: roles.0: no name"),
        (json.dumps(FLAME).replace('["trainer", "middle"]', '["trainer"]'), None, "channels.0.pair.1: is missing"),
        (json.dumps(FLAME), '{"fromSystem": {}}', "data.json:1:1: must be a list"),
        (
            json.dumps(FLAME),
            json.dumps(SPEC).replace("red", "uk"),
            "data.json:1:46: 0.datasetGroups.uk: 2 datasets of an unknown group",
        ),
    ],
)
def test_import_says_what_is_wrong(mine: Path, schema: str, data: str | None, told: str) -> None:
    (mine / "schema.json").write_text(schema)
    (mine / "data.json").write_text(data or "[]")
    words = ("--data", "data.json") if data else ()
    ended = ssim(mine, "topology", "import", "schema.json", *words, "-o", "new.yaml")
    assert ended.returncode == 2
    assert told in ended.stderr
    assert not (mine / "new.yaml").exists()


def test_import_tells_places_in_flames_words(mine: Path) -> None:
    lacking = {**FLAME, "roles": [FLAME["roles"][0], {"name": "middle", "groupAssociation": [{"param": "red"}]}]}
    (mine / "schema.json").write_text(json.dumps(lacking, indent=1))
    ended = ssim(mine, "topology", "import", "schema.json", "-o", "new.yaml")
    line = json.dumps(lacking, indent=1).splitlines().index('   "name": "middle",') + 3
    assert f"schema.json:{line}:" in ended.stderr
    assert "roles.1.groupAssociation.0: groupAssociation lacks a channel ('ctl')" in ended.stderr


CLASSICAL: dict[str, Any] = {
    "name": "c",
    "roles": [
        {"name": "client", "isDataConsumer": True, "groupAssociation": [{"up": "eu"}]},
        {"name": "server", "groupAssociation": [{"up": "eu"}]},
    ],
    "channels": [
        {
            "name": "up",
            "pair": ["client", "server"],
            "groupBy": {"type": "tag", "value": ["eu"]},
            "funcTags": {"client": ["fetch", "upload"], "server": ["distribute", "aggregate"]},
        }
    ],
}
MODEL = {
    "baseModel": {"name": "m"},
    "hyperparameters": {"rounds": 2, "batchSize": 16, "learningRate": 0.05, "momentum": 0.9},
    "optimizer": {"sort": "fedadam", "kwargs": {"beta_1": 0.8, "eta": 0.02}},
    "selector": {"sort": "random", "kwargs": {"k": 1}},
}


def test_import_guesses_programs_and_takes_the_model_specification_over(mine: Path) -> None:
    pytest.importorskip("torch", reason="federated programs need the extra [torch]")
    (mine / "schema.json").write_text(json.dumps(CLASSICAL))
    (mine / "model.json").write_text(json.dumps(MODEL))
    ended = ssim(mine, "topology", "import", "schema.json", "--model", "model.json", "-o", "new.yaml")
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.splitlines()
    assert said[:2] == ["left out: hyperparameters.momentum", "left out: baseModel"]
    assert "filled in: roles.client.program: federated.programs:Trainer, by its funcTags" in said
    found = read_topology(mine / "new.yaml")
    assert found.tag.role("client").config == {"batch": 16, "rate": 0.05}
    assert found.tag.channel("up").select["server"].params == {"k": 1}
    training = read_yaml(mine / "new-train.yaml").data
    assert training["rounds"] == 2
    assert training["algorithm"] == {"kind": "fedopt", "optimizer": "adam", "beta1": 0.8, "rate": 0.02}
    assert ssim(mine, "topology", "check", "new.yaml").stdout.splitlines()[-1] == "the programs fit"


def test_the_schema_for_editors_takes_what_is_read_and_nothing_else(mine: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the extra [ray]")
    schema = json.loads(ssim(mine, "schema", "topology").stdout)
    shipped = sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml"))
    for path in [*shipped, mine / "mine.yaml"]:
        jsonschema.validate(read_yaml(path).data, schema)
    keys = [schema["properties"], *(part["properties"] for part in schema["$defs"].values())]
    assert all("description" in each for properties in keys for name, each in properties.items() if name != "schema")
    role: dict[str, Any] = {"schema": "topology/1", "roles": {"a": {}}}
    for wrong in (
        {"schema": "topology/1"},
        {**role, "roles": {"a": {"x": 1}}},
        {**role, "channels": {"c": {"pair": ["a"]}}},
        {**role, "channels": {"c": {"pair": ["a", "a"], "link": {"late": 1}}}},
        {**role, "datasets": {"a": {"default": 0}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
