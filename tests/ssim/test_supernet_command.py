"""`ssim supernet`, as it is typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from click.testing import CliRunner

import supernet.memory
from sim.base.errors import DataError, SpecError
from ssim.commands.supernet import supernet as command
from supernet.checkpoint import load
from supernet.families import FAMILIES, OfaResNetSmall
from supernet.family import build

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> str:
    """Return what the command prints."""
    return CliRunner().invoke(command, words, catch_exceptions=False).output


def test_list_names_every_family_its_options_and_how_large_it_is() -> None:
    lines = run("list").splitlines()
    assert [line.partition(":")[0] for line in lines[::2]] == list(FAMILIES)
    told = dict(zip(FAMILIES, lines[1::2], strict=True))
    assert "4.575e+13 subnets; classes=1000" in told["ofa_resnet50"]
    assert "12 subnets" in told["dynabert"]


def test_show_prints_the_space_and_its_ends() -> None:
    lines = run("show", "ofa_resnet_small", "--set", "width=8", "--size", "8").splitlines()
    assert lines[0] == "ofa_resnet_small: 3.401e+07 subnets"
    assert lines[1:4] == [
        "  depths[0..2]: 0, 1, 2",
        "  expands[0..8]: 0.5, 0.75, 1.0",
        "  widths[0..2]: 0, 1, 2, 3",
    ]
    assert "GMACs at 8" in lines[4]
    assert [line.split()[0] for line in lines[5:]] == [
        "ofa_resnet_small:d0x3:e0.5x9:w0x3",
        "ofa_resnet_small:d2x3:e1.0x9:w3x3",
    ]


def test_show_lists_the_layers_that_are_left_whole() -> None:
    lines = [line for line in run("show", "dynabert_small").splitlines() if "left whole" in line]
    assert any("encoder.layer.*.output.dense goes through" in line for line in lines)
    assert "left whole" not in run("show", "cnn_small")


def test_show_prints_the_subnets_that_superserve_serves() -> None:
    rows = [line.split()[1:] for line in run("show", "ofa_resnet50", "--table", "ofa-resnet50-a40").splitlines()[-6:]]
    assert rows == [
        ["0.9622", "6.54", "91"],
        ["1.4879", "13.39", "126"],
        ["1.7997", "15.36", "139"],
        ["1.9875", "18.77", "166"],
        ["3.9995", "35.16", "233"],
        ["7.4916", "48.11", "269"],
    ]


def test_show_names_the_step_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["show", "ofa_resnet_small", "--size", "8"]
    assert CliRunner().invoke(command, words, catch_exceptions=False).stderr == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
    shown = CliRunner().invoke(command, words, catch_exceptions=False).stderr
    assert "ofa_resnet_small: finding the structure of the network, counting MACs" in shown


def test_show_prints_a_subnet_by_its_id() -> None:
    last = run("show", "dynabert_small", "dynabert_small:d4:e0.5").splitlines()[-1]
    assert last.split() == ["dynabert_small:d4:e0.5", "0.4783", "15.62", "0"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "ofa_resnet5"], "did you mean 'ofa_resnet50'"),
        (["show", "dynabert", "--set", "class=2"], "did you mean 'classes'"),
        (["show", "dynabert", "--set", "classes"], r"--set: must be NAME=VALUE \('classes'\)"),
        (["show", "dynabert", "--set", "classes=many"], r"DynaBert.classes: is not a number \('many'\)"),
        (["show", "dynabert", "dynabert:d7:e0.5"], r"dynabert, depths\[0\]: not a choice \(7\); one of 6, 9, 12"),
        (["show", "dynabert", "--table", "ofa-resnet50-a40"], "dynabert, depths: wrong length"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        run(*words)


def test_a_table_without_control_tuples_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("subnet,accuracy,batch_size,latency_ms\na,70,1,5\n")
    with pytest.raises(DataError, match="subnet a: has no control tuple"):
        run("show", "dynabert", "--table", str(tmp_path / "t.csv"))


def test_import_makes_a_checkpoint(tmp_path: Path) -> None:
    held = build(OfaResNetSmall(width=8), seed=5)
    torch.save(held.model.state_dict(), tmp_path / "weights.pt")
    words = ["--family", "ofa_resnet_small", "--set", "width=8", "-o", str(tmp_path / "net.pt")]
    assert "ofa_resnet_small, 0.07 M parameters" in run("import", str(tmp_path / "weights.pt"), *words)
    found = load(tmp_path / "net.pt")
    assert found.family == OfaResNetSmall(width=8)
    name = "model.classifier.linear.weight"
    assert torch.equal(found.supernet.state_dict()[name], held.state_dict()[name])
    with pytest.raises(DataError, match="wrong shape"):
        run("import", str(tmp_path / "weights.pt"), "--family", "ofa_resnet_small", "-o", str(tmp_path / "other.pt"))
    assert not (tmp_path / "other.pt").exists()


@pytest.mark.usefixtures("all_formats")
def test_memory_counts_and_draws(tmp_path: Path) -> None:
    lines = run("memory", "--models", "8", "--cache-mb", "100", "--out", str(tmp_path)).splitlines()
    assert lines[0].split()[-5:] == ["1", "2", "3", "4", "6"]
    counted = {" ".join(words[:-5]): words[-5:] for words in map(str.split, lines[1:5])}
    assert counted["hand-tuned ResNets"] == ["47", "134", "236", "415", "-"]
    assert counted["extracted subnets"] == ["26", "80", "141", "217", "550"]
    assert counted["SubNetAct"] == ["193", "193", "193", "193", "194"]
    assert all(193 <= int(cell) <= 294 for cell in counted["SubNetAct with up to 100 MB of slices"])
    assert lines[5:7] == [
        "SubNetAct takes less than hand-tuned ResNets: from 3 on.",
        "SubNetAct takes less than extracted subnets: from 4 on.",
    ]
    assert "2.84 times less than the 6 published ones apart (550 MB)" in lines[7]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{ending}" for name in ("memory", "statistics") for ending in ("pdf", "svg", "png")
    }


def test_memory_as_json_is_the_table_to_the_byte() -> None:
    words = ("memory", "--models", "8", "--cache-mb", "0")
    found = json.loads(run(*words, "--json"))
    _, *rows = (line.split() for line in run(*words).splitlines()[:4])
    assert [" ".join(row[:-5]) for row in rows] == [one["system"] for one in found["systems"]]
    for row, one in zip(rows, found["systems"], strict=True):
        megabytes = [f"{size / 1e6:.0f}" for size in one["bytes"]] + ["-"] * 8
        assert row[-5:] == [megabytes[models - 1] for models in (1, 2, 3, 4, 6)]
    assert (found["models"], found["seed"], found["pictures"]) == (8, 0, [])


def test_costs_of_a_tiny_network_are_not_shown_as_0() -> None:
    rows = run("show", "cnn_small", "--set", "width=4", "--set", "hidden=4", "--size", "8").splitlines()[-2:]
    assert all(float(cell) > 0 for row in rows for cell in row.split()[1:3])  # GMACs and millions of parameters


def test_without_torch_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssim.extras.find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(SpecError, match=r"^torch: is not installed; pip install 'superserve-sim\[torch\]'"):
        run("list")


def test_a_megabyte_is_one_in_the_table_and_in_the_figure() -> None:
    import figures.memory

    assert figures.memory.BYTES_PER_MB == supernet.memory.BYTES_PER_MB
