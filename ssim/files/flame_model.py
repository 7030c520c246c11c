"""What Flame keeps in code or in its model specification: programs, hyperparameters, optimizer and selector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAGS = {
    "ring_allreduce": "ring",
    "coordinate": "ask",
    "coordinateWithTopAgg": "advise_top",
    "coordinateWithMidAgg": "advise_middles",
    "coordinateWithTrainer": "advise_trainers",
}
"""Function tags of Flame's programs, and of those here."""
_CLIENT, _SERVER = frozenset({"fetch", "upload"}), frozenset({"distribute", "aggregate"})
_PROGRAMS = {
    _CLIENT: "federated.programs:Trainer",
    _SERVER: "federated.programs:Aggregator",
    _CLIENT | _SERVER: "federated.programs:IntermediateAggregator",
    frozenset({"ring"}): "federated.ring:RingTrainer",
    _CLIENT | {"ring"}: "federated.ring:HybridTrainer",
    _CLIENT | {"ask"}: "federated.coordinated:CoordinatedTrainer",
    _SERVER | {"ask"}: "federated.coordinated:CoordinatedAggregator",
    _CLIENT | _SERVER | {"ask"}: "federated.coordinated:CoordinatedIntermediateAggregator",
    frozenset({"advise_top", "advise_middles", "advise_trainers"}): "federated.coordinated:Coordinator",
}
"""The program whose function tags a role has."""
_HYBRID, _ASYNC = "federated.ring:HybridAggregator", "federated.asynchronous:AsyncAggregator"
_CONFIG = {"batchSize": "batch", "learningRate": "rate", "epochs": "epochs", "weightDecay": "decay"}
_OPTIMIZERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "fedavg": ({"kind": "fedavg"}, {}),
    "fedprox": ({"kind": "fedprox"}, {"mu": "pull"}),
    "feddyn": ({"kind": "feddyn"}, {"alpha": "pull"}),
    "scaffold": ({"kind": "scaffold"}, {}),
    "fedbuff": ({"kind": "fedavg"}, {}),
    **{
        f"fed{name}": (
            {"kind": "fedopt", "optimizer": name},
            {"beta_1": "beta1", "beta_2": "beta2", "eta": "rate", "tau": "tau"},
        )
        for name in ("adam", "yogi", "adagrad")
    },
}
"""The algorithm that an optimizer of Flame's is, and the names of its parameters."""


def guess_programs(data: dict[str, Any]) -> list[str]:
    """Give each role the program whose function tags it has; return what was filled in.

    Args:
        data: The content of a topology file without programs; changed in place.
    """
    filled = []
    roles, channels = data["roles"], data["channels"]
    known = {role: frozenset(_TAGS.get(tag, tag) for tag in _tags(role, channels)) for role in roles}
    if not all(tags in _PROGRAMS for tags in known.values()):
        return [f"no programs: {', '.join(r for r in roles if known[r] not in _PROGRAMS)} have other funcTags"]
    for channel in channels.values():
        verbs = channel.get("verbs") or {}
        channel["verbs"] = {role: [_TAGS.get(tag, tag) for tag in tags] for role, tags in verbs.items()}
    rings = any("ring" in tags for tags in known.values())
    for role, tags in known.items():
        program = _HYBRID if rings and tags == _SERVER else _PROGRAMS[tags]
        roles[role]["program"] = program
        filled.append(f"roles.{role}.program: {program}, by its funcTags")
    return filled


def _tags(role: str, channels: dict[str, Any]) -> Iterator[str]:
    for channel in channels.values():
        verbs = channel.get("verbs")
        tags = verbs.get(role) if isinstance(verbs, dict) else None
        yield from (tag for tag in tags or () if isinstance(tag, str))


def apply_model(data: dict[str, Any], model: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Put a model specification into a topology, and make a federated training of the rest.

    Args:
        data: The content of a topology file with programs; changed in place.
        model: The model specification.

    Returns:
        The content of the file of the training, what was left out, and what was filled in.
    """
    hyper = dict(model.get("hyperparameters") or {})
    (optimizer, arguments), (selector, choice) = _sort(model, "optimizer"), _sort(model, "selector")
    training: dict[str, Any] = {"schema": "federated/1", "name": "", "seed": 1, "topology": {"use": ""}}
    training |= {"data": "digits", "family": "cnn_small", "rounds": hyper.pop("rounds", 1)}
    filled = ["seed: 1; data: digits and family: cnn_small, which Flame has in code"]
    left_out = []
    config = {key: hyper.pop(name) for name, key in _CONFIG.items() if name in hyper}
    for body in data["roles"].values():
        if body.get("data") and config:
            body["config"] = config
    if optimizer in _OPTIMIZERS:
        algorithm, names = _OPTIMIZERS[optimizer]
        params = {names[key]: arguments.pop(key) for key in list(arguments) if key in names}
        training["algorithm"] = {**algorithm, **params}
    elif optimizer:
        left_out.append(f"optimizer.sort: {optimizer}")
    if optimizer == "fedbuff":
        filled += _apply_fedbuff(data, hyper, choice)
    elif selector in _SELECTORS:
        _apply_selector(data, _SELECTORS[selector], choice)
    elif selector not in {"", "default"}:
        left_out.append(f"selector.sort: {selector}")
    left_out += [f"optimizer.kwargs.{key}" for key in arguments] + [f"selector.kwargs.{key}" for key in choice]
    left_out += [f"hyperparameters.{key}" for key in hyper]
    left_out += [key for key in model if key not in {"hyperparameters", "optimizer", "selector"} and model[key]]
    return training, left_out, filled


_SELECTORS = {"random": "random", "oort": "federated.selection:Oort"}
"""Flame's selectors, and those here."""


def _apply_fedbuff(data: dict[str, Any], hyper: dict[str, Any], choice: dict[str, Any]) -> list[str]:
    """Make the server asynchronous; return what differs from Flame."""
    config = {"buffer": hyper.pop("aggGoal")} if "aggGoal" in hyper else {}
    if "c" in choice:
        config["concurrency"] = choice.pop("c")
    tags = _by_role(data)
    for role in tags:
        if tags[role] == _SERVER:
            data["roles"][role] |= {"program": _ASYNC, "config": config}
    if _CLIENT | _SERVER not in tags.values():
        return []
    return ["intermediate aggregators wait for all of their trainers; only the server is asynchronous"]


def _apply_selector(data: dict[str, Any], use: str, choice: dict[str, Any]) -> None:
    """Let the aggregators of trainers select them."""
    count = choice.pop("k", choice.pop("aggr_num", None))
    select = {"use": use, "params": {} if count is None else {"k": count}}
    for channel in data["channels"].values():
        for role, tags in (channel.get("verbs") or {}).items():
            peer = channel["pair"][1] if channel["pair"][0] == role else channel["pair"][0]
            if "distribute" in tags and data["roles"][peer].get("data"):
                channel["select"] = {role: select}


def _by_role(data: dict[str, Any]) -> dict[str, frozenset[str]]:
    return {role: frozenset(_tags(role, data["channels"])) for role in data["roles"]}


def _sort(model: dict[str, Any], section: str) -> tuple[str, dict[str, Any]]:
    given = model.get(section) or {}
    return str(given.get("sort", "")), dict(given.get("kwargs") or {})
