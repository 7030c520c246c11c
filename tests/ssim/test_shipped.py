"""Shipped files by short names, and what of the user has such a name, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sim.base.errors import SpecError
from ssim.files.shipped import find_file, folder_of, names
from tests.ssim.in_process import assert_refused, ssim

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["experiments", "topologies"])
def test_each_shipped_file_is_found_and_a_local_one_wins(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    for name, path in names(kind).items():
        assert find_file(kind, name, said.append) == path == folder_of(kind) / f"{name}.yaml"
    assert said == []
    (tmp_path / "own.yaml").touch()
    assert find_file(kind, "own", said.append).name == "own.yaml"
    assert said == []  # it hides nothing
    name = next(name for name in names(kind) if "/" not in name)
    (tmp_path / f"{name}.yaml").touch()
    assert find_file(kind, name, said.append).name == f"{name}.yaml"
    assert said == [f"{name}.yaml in this folder is used, not the shipped file of that name"]
    with pytest.raises(SpecError, match="file not found"):
        find_file(kind, "nothing-like-it", said.append)


@pytest.mark.parametrize("broken", ["text", "empty", "bytes", "folder", "link"])
def test_a_broken_local_file_of_a_shipped_name_is_told(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "azure.yaml"
    match broken:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("nowhere")
        case _:
            path.write_bytes({"text": b"trace: {", "empty": b"", "bytes": b"\xff"}[broken])
    ended = ssim(tmp_path, "run", "azure", "--no-figures")
    assert_refused(ended, "azure.yaml in this folder is used, not the shipped file of that name\nssim: azure.yaml:")
    assert not (tmp_path / "results").exists()
