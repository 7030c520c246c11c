"""Every key of a federated training, and of its topology, changes the outcome, is refused, or is said to be unused."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="federated training needs the extra [torch]")

from sim.base.errors import SpecError, SsimError  # noqa: E402 - after torch is known to be there
from ssim.files.topology_file import KEYS, OWNERS, TopologyModel  # noqa: E402
from ssim.files.yaml_file import as_yaml  # noqa: E402
from ssim.jobs.federated.kind import merged  # noqa: E402
from ssim.jobs.federated.spec import FederatedSpec  # noqa: E402
from ssim.jobs.federated.unused import engine_notes  # noqa: E402
from ssim.jobs.reading import read_job  # noqa: E402
from tests.test_docs import ROOT  # noqa: E402
from topology.engines.sim import SimEngine  # noqa: E402
from topology.tag import Link, Select  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

BASE: dict[str, Any] = {
    "schema": "federated/1",
    "name": "keys",
    "seed": 7,
    "topology": {
        "use": str(ROOT / "topologies" / "classical.yaml"),
        "roles": {"trainer": {"config": {"batch": 8}}},
        "datasets": {"trainer": {"default": 4}},
    },
    "data": {"kind": "digits", "train": 40},
    "partition": "iid",
    "family": {"kind": "cnn_small", "width": 4, "hidden": 8},
    "rounds": 2,
    "subnets": "random",
}

TRAINER, SLOW = "federated.programs:Trainer", {"epochs": 2}

CHANGED: dict[str, dict[str, Any]] = {
    "engine": {"engine": "local"},
    "topology.use": {"topology": {"use": str(ROOT / "topologies" / "asynchronous.yaml")}},
    "topology.roles": {"topology": {"roles": {"trainer": {"config": {"rate": 0.2}}}}},
    "topology.channels": {"topology": {"channels": {"param": {"link": {"latency_ms": 77}}}}},
    "topology.datasets": {"topology": {"datasets": {"trainer": {"default": 3}}}},
    "topology.computes": {"topology": {"computes": {"default": {"speed": 2}}}},
    "topology.faults": {"topology": {"faults": [{"worker": "trainer/1", "slow": 3}]}},
    "data": {"data": {"kind": "digits", "train": 48}},
    "partition": {"partition": "label_skew"},
    "family": {"family": {"kind": "cnn_small", "width": 4, "hidden": 16}},
    "algorithm": {"algorithm": "fedopt"},
    "subnets": {"subnets": "largest"},
    "loss": {"loss": "multi_margin_loss"},
    "metric": {"metric": "r2"},
    "maxnet": {"maxnet": {"first": 0.9}, "subnets": "sandwich"},
    "privacy": {"privacy": {"clip": 0.1, "noise": 1}},
    "compression": {"compression": "eight_bit"},
    "aggregation": {"aggregation": "median", "subnets": "largest"},
    "rounds": {"rounds": 3},
    "personal": {"personal": ["classifier.*"]},
    "gmacs_per_s": {"gmacs_per_s": 7.0},
    "seed": {"seed": 8},
    "evaluation": {"evaluation": {"every": 2}},
    "roles.program": {"topology": {"roles": {"aggregator": {"program": "federated.programs:EagerAggregator"}}}},
    "roles.data": {"topology": {"roles": {"trainer": {"data": False}}}},
    "roles.replicas": {"topology": {"roles": {"aggregator": {"replicas": 2}}}},
    "roles.at": {"topology": {"roles": {"aggregator": {"at": [{"param": "default"}, {"param": "default"}]}}}},
    "roles.compute": {"topology": {"roles": {"trainer": {"compute": "default2"}}}},
    "roles.resources": {"topology": {"roles": {"trainer": {"resources": {"gpu": 1}}}}},
    "roles.config": {"topology": {"roles": {"trainer": {"config": {"epochs": 2}}}}},
    "roles.variants": {
        "topology": {"roles": {"trainer": {"variants": {"slow": {"program": TRAINER, "share": 0.5, "config": SLOW}}}}}
    },
    "channels.pair": {"topology": {"channels": {"param": {"pair": ["trainer", "trainer"]}}}},
    "channels.groups": {"topology": {"channels": {"param": {"groups": ["a", "b"]}}}},
    "channels.verbs": {"topology": {"channels": {"param": {"verbs": {"trainer": ["fetch", "upload", "other"]}}}}},
    "channels.link": {"topology": {"channels": {"param": {"link": {"latency_ms": 3}}}}},
    "channels.select": {"topology": {"channels": {"param": {"select": {"trainer": "random"}}}}},
    "channels.backend": {"topology": {"channels": {"param": {"backend": "mqtt"}}}},
    "link.latency_ms": {"topology": {"channels": {"param": {"link": {"latency_ms": 3}}}}},
    "link.bandwidth_mbps": {"topology": {"channels": {"param": {"link": {"bandwidth_mbps": 3}}}}},
    "link.loss": {
        "topology": {
            "channels": {"param": {"link": {"loss": 0.6}}},
            "roles": {"aggregator": {"config": {"timeout_s": 9}}},
        }
    },
    "select.use": {"topology": {"channels": {"param": {"select": {"aggregator": {"use": "random"}}}}}},
    "select.params": {
        "topology": {"channels": {"param": {"select": {"aggregator": {"use": "random", "params": {"k": 9}}}}}}
    },
    "computes.speed": {"topology": {"computes": {"default": {"speed": 3}}}},
    "computes.slots": {"topology": {"computes": {"default": {"slots": 1}}}},
    "computes.up_mbps": {"topology": {"computes": {"default": {"up_mbps": 1}}}},
    "computes.down_mbps": {"topology": {"computes": {"default": {"down_mbps": 1}}}},
    "datasets.id": {"topology": {"datasets": {"trainer": {"default": ["d", "c", "b", "a"]}}}},
    "datasets.size": {
        "topology": {"datasets": {"trainer": {"default": {"count": 4, "size": 9}}}},
        "partition": "label_skew",
    },
    "datasets.compute": {
        "topology": {
            "datasets": {"trainer": {"default": {"count": 4, "compute": "x"}}},
            "computes": {"x": {"slots": 1}},
        }
    },
    "datasets.ref": {"topology": {"datasets": {"trainer": {"default": [{"id": "a", "ref": "a.csv"}, "b", "c", "d"]}}}},
    "faults.worker": {"topology": {"faults": [{"worker": "trainer/9", "slow": 3}]}},
    "faults.join_s": {"topology": {"faults": [{"worker": "trainer/1", "join_s": 0.01}]}},
    "faults.leave_s": {"topology": {"faults": [{"worker": "trainer/1", "leave_s": 0.01}]}},
    "faults.die_s": {"topology": {"faults": [{"worker": "trainer/1", "die_s": 0.01}]}},
    "faults.sessions": {"topology": {"faults": [{"worker": "trainer/1", "sessions": [[0, 0.01], [0.5, 9]]}]}},
    "faults.every_s": {"topology": {"faults": [{"worker": "trainer/1", "sessions": [[0, 0.01]], "every_s": 0.05}]}},
    "faults.slow": {"topology": {"faults": [{"worker": "trainer/1", "slow": 2}]}},
    "faults.slow_from_s": {"topology": {"faults": [{"worker": "trainer/1", "slow_from_s": 2}]}},
    "faults.slow_until_s": {"topology": {"faults": [{"worker": "trainer/1", "slow": 9, "slow_until_s": 1}]}},
}
"""What is changed to try each key."""

FOR_READERS = {"name", "description"}
HOW_IT_IS_DONE = {"schema", "name", "repeats", "sweep", "patience_s", "vectorized", "checkpoint", "calibration"}
"""Keys that change how a training is run, stored or measured: tested elsewhere."""


def all_keys() -> set[str]:
    """The keys of the schemas: those of the file, of `topology`, and of all entries of a topology file."""
    keys = {field.alias or name for name, field in FederatedSpec.model_fields.items()} - {"topology"}
    keys |= {f"topology.{name}" for name in FederatedSpec.model_fields["topology"].annotation.model_fields}
    assert set(OWNERS) == set(TopologyModel.model_fields) - {"schema_", "name"}
    owners = {**OWNERS, "link": Link, "select": Select}
    inner = {f"{place}.{field.name}" for place, owner in owners.items() for field in fields(owner)}
    inner -= {f"{place}.{name}" for place, names in KEYS.items() for name in names}
    return {key for key in (keys - HOW_IT_IS_DONE) | inner if key.rpartition(".")[2] not in FOR_READERS}


def outcome(folder: Path, changed: dict[str, Any]) -> tuple[str, list[str]]:
    """A hash of all that happens in a training and of its models, or why it is refused; and what is said of it."""
    path = folder / "keys.yaml"
    path.write_text(as_yaml(merged(BASE, changed)))
    try:
        (run,) = read_job(path).runs
        notes = engine_notes(run.spec, run.parts)
        if run.spec.engine != "sim":
            return "", notes
        programs = run.job.programs(run.parts.owners)
        torch.set_num_threads(1)
        report = SimEngine().run(run.parts.topology.plan, programs, seed=7, faults=run.parts.topology.faults)
    except SsimError as error:
        return f"{'refused' if isinstance(error, SpecError) else 'ended'}: {error}", []
    models = [memory["state"] for memory in report.results.values() if "state" in memory]
    content = [part.numpy().tobytes() for model in models for part in model.values()]
    return hashlib.sha256(b"".join([report.fingerprint().encode(), *content])).hexdigest(), notes


def test_no_fault_hides_another(tmp_path: Path) -> None:
    """Of the model, of a plug-in, of the topology, of a program in it, and of what nobody would use."""
    changed = {
        "rounds": 0,
        "algorithm": "fedadam",
        "topology": {
            "roles": {"trainer": {"config": {"warmup": 0.9}}},
            "datasets": {"trainer": {"default": {"count": 4, "ref": "a.csv"}}},
            "faults": [{"worker": "trainer/9"}],
        },
    }
    said = outcome(tmp_path, changed)[0].splitlines()
    told = (
        "rounds: must be",
        "{kind: fedopt, optimizer: adam}",
        "warmup: unknown parameter of Trainer",
        "'trainer/9'",
        "'a.csv'",
    )
    assert len(said) == len(told)
    assert all(any(part in line for line in said) for part in told), said


def test_the_table_of_keys_is_whole() -> None:
    assert set(CHANGED) == all_keys()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return outcome(tmp_path_factory.mktemp("base"), {})[0]


@pytest.mark.parametrize("key", CHANGED)
def test_a_key_is_used_or_refused_or_said_to_be_unused(base: str, tmp_path: Path, key: str) -> None:
    came, notes = outcome(tmp_path, CHANGED[key])
    assert came != base or notes
    if came == base:
        assert any(key.rpartition(".")[2] in note or " k is 9" in note for note in notes), notes
    if came.startswith("refused") and not key.startswith("channels."):  # there other parts of the channel are told
        assert key.rpartition(".")[2] in came, came


def test_a_program_of_a_role_lies_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(
        "from dataclasses import dataclass\nfrom federated.programs import Trainer\n"
        "@dataclass(eq=False)\nclass Mine(Trainer):\n    pass\n"
    )
    topology = {**BASE["topology"], "roles": {"trainer": {"program": "beside:Mine"}}}
    (tmp_path / "keys.yaml").write_text(as_yaml({**BASE, "topology": topology}))
    (run,) = read_job(tmp_path / "keys.yaml").runs
    assert run.parts.owners["trainer"].__module__ == "beside"
