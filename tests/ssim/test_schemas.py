"""A file given to a command that can't run it is told which command can."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.base.errors import SpecError
from ssim.files.schemas import COMMANDS, check_schema, schema_of
from tests.ssim.in_process import ssim

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("schema: experiment/1\nname: x\n", "experiment/1"),
        ("# a comment\nname: x\nschema:   'training/1'  # another\n", "training/1"),
        ('schema: "federated/1"\n: broken [', "federated/1"),
        ("name: x\ntrace: {schema: topology/1}\n", None),
        ("", None),
    ],
)
def test_the_schema_is_read_without_the_rest(tmp_path: Path, text: str, schema: str | None) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert schema_of(tmp_path / "a.yaml") == schema


def test_what_can_not_be_read_has_no_schema(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"schema: \xff")
    for path in (tmp_path / "a.yaml", tmp_path, tmp_path / "none.yaml"):
        assert schema_of(path) is None
        check_schema(path, "experiment/1")  # left to whoever reads it


def test_every_shipped_file_has_a_command() -> None:
    files = [*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "topologies").glob("*.yaml")]
    assert files
    assert {schema_of(path) for path in files} <= set(COMMANDS)


def test_another_schema_is_told_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("schema: experiment/1\n")
    with pytest.raises(SpecError) as caught:
        check_schema(tmp_path / "a.yaml", "topology/1")
    assert str(caught.value) == (
        f"{tmp_path / 'a.yaml'}: is a file of schema experiment/1; use `ssim run {tmp_path / 'a.yaml'}`"
    )
    ended = ssim(tmp_path, "topology", "draw", "a.yaml", "-o", "a.svg")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "use `ssim run a.yaml`" in ended.stderr
