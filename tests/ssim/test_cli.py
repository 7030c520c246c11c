"""The command line as a whole: its start, its help, and what it says where nothing can be run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

import policies
import sim.traces
from sim.tables.files import shipped_tables
from ssim.cli import main
from ssim.commands.group import CommandGroup
from ssim.commands.root import COMMANDS
from ssim.commands.root import ssim as root
from ssim.files.shipped import names
from ssim.packages import PACKAGES
from ssim.results.store import INDEX
from tests.ssim.in_process import ssim

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

SIGNAL = """\
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.{signal})

sys.meta_path.insert(0, Interrupts())
sys.argv = ["ssim", "table", "list"]
{start}
"""

STARTS = {
    "script": "from ssim.cli import main; sys.exit(main())",
    "module": "import runpy; runpy.run_module('ssim', run_name='__main__', alter_sys=True)",
}


def python(code: str, folder: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("module", ["ssim.installation", "click", "ssim.commands.table", "numpy", "rich.table"])
def test_an_interruption_during_the_imports_is_told_in_one_line(
    tmp_path: Path, start: str, signal: str, module: str
) -> None:
    ended = python(SIGNAL.format(module=module, signal=signal, start=STARTS[start]), tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.strip()) == (1, "", "ssim: interrupted")


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "ssim"])
def test_a_package_of_somebody_else_is_named(tmp_path: Path, package: str) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise RuntimeError('was imported')\n")
    ended = python(f"import sys; sys.argv = ['ssim', 'policy', 'list']; {STARTS['script']}", tmp_path, tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"ssim: package {package!r}: found in another place ({tmp_path / package}), not in {ROOT}")
    assert line.endswith("install superserve-sim in an environment of its own, where no other package has this name")


def test_a_module_of_the_same_name_is_named_and_a_plain_folder_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    start = f"import sys; sys.argv = ['ssim', '--version']; {STARTS['script']}"
    ended = python(start, tmp_path, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    (tmp_path / "policies.py").touch()
    ended = python(start, tmp_path, tmp_path)
    assert ended.returncode == 1
    assert f"({tmp_path / 'policies.py'})" in ended.stderr


def test_another_version_in_the_environment_is_told(tmp_path: Path) -> None:
    (tmp_path / "superserve_sim-9.8.7.dist-info").mkdir()
    ended = python(f"import sys; sys.argv = ['ssim', '--version']; {STARTS['script']}", tmp_path, tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.startswith("ssim ")
    (line,) = ended.stderr.splitlines()
    assert f"but 9.8.7 in {tmp_path} is installed, too" in line


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command and group below a group, with what is typed for it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


EVERY = dict(commands(root))


def test_the_help_lists_every_command_with_its_sub_commands() -> None:
    assert [name for name in EVERY if " " not in name] == list(COMMANDS)
    for name, command in EVERY.items():
        if isinstance(command, click.Group):
            _, _, listed = COMMANDS[name].rstrip(".").rpartition(": ")
            assert listed.split(", ") == list(command.commands), name


def test_every_group_knows_help_and_mistyped_commands() -> None:
    assert [
        name for name, one in EVERY.items() if isinstance(one, click.Group) and not isinstance(one, CommandGroup)
    ] == []


@pytest.mark.parametrize("name", EVERY)
def test_every_command_has_help_for_each_option_and_an_example_that_parses(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = EVERY[name]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert command.help
    assert [option.name for option in options if not option.help] == []
    assert all(option.name in {"out", "output"} for option in options if "-o" in option.opts)
    if isinstance(command, click.Group):
        return
    _, _, examples = (command.epilog or "").partition("\n  ssim ")
    assert examples, "no example"
    monkeypatch.chdir(ROOT)
    for line in examples.split("\n  ssim "):
        words = shlex.split(line.partition(" > ")[0])
        assert " ".join(words).startswith(f"{name} ") or " ".join(words) == name
        command.make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rnu",), "No such command 'rnu'. Did you mean 'run'?"),
        (("table", "shwo"), "No such command 'shwo'. Did you mean 'show'?"),
        (("help", "tabel"), "No such command 'tabel'. Did you mean 'table'?"),
        (("results", "xyz"), "No such command 'xyz'. Commands: status, ls, trace."),
        (("--halp",), "No such option"),
    ],
)
def test_a_mistyped_command_is_answered_by_a_near_one(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    ended = ssim(tmp_path, *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert says in ended.stderr


@pytest.mark.parametrize("words", [(), ("run",), ("table",), ("table", "show")])
def test_help_is_a_command_of_every_group(tmp_path: Path, words: tuple[str, ...]) -> None:
    by_option = ssim(tmp_path, *words, "--help")
    assert by_option.stdout.startswith("Usage: ssim")
    assert ssim(tmp_path, "help", *words) == by_option
    if len(words) == 2:
        assert ssim(tmp_path, words[0], "help", words[1]) == by_option


def test_an_error_of_ones_own_code_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "raising_source.py").write_text(
        "from sim.traces.synthetic import Constant\n\n\n"
        "class Raises(Constant):\n"
        "    def chunks(self, seed):\n"
        "        return [][seed]\n"
    )
    words = ("trace", "describe", "raising_source:Raises", "--set", "mean_qps=4", "--set", "duration_s=1")
    ended = ssim(tmp_path, *words)
    said = "ssim: IndexError: list index out of range (raising_source.py:6, in chunks; --debug shows the traceback)\n"
    assert (ended.returncode, ended.stderr) == (1, said)
    with pytest.raises(IndexError):
        main([*words, "--debug"])


def test_an_unknown_name_is_answered_by_what_is_stored(tmp_path: Path) -> None:
    for words in (("results", "status", "azure"), ("figures", "azure")):
        ended = ssim(tmp_path, *words)
        assert ended.returncode == 1
        assert "nothing is stored in results; `ssim run FILE` stores results" in ended.stderr
    for name in ("azure", "rates"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / INDEX).touch()
    (tmp_path / "azure.yaml").touch()
    for words, says in (
        (
            ("results", "status", "azrue"),
            "results: no stored results of this name ('azrue'); stored in results: azure, rates",
        ),
        (("figures", "xyz"), "results: no stored results of this name ('xyz'); stored in results: azure, rates"),
        (("report", "azure.yaml"), "azure.yaml: is a file, not a folder of results; stored in results: azure, rates"),
        (("report", "results/rate"), "results/rate: folder not found; stored in results: azure, rates"),
    ):
        ended = ssim(tmp_path, *words)
        assert (ended.returncode, ended.stderr) == (1, f"ssim: {says}\n")


LISTS = {
    "policy list": ("name", set(policies.SHORT_NAMES)),
    "table list": ("name", set(shipped_tables())),
    "trace list": ("name", set(sim.traces.SHORT_NAMES)),
    "examples": ("name", {*names("experiments"), *names("topologies")}),
}


@pytest.mark.parametrize("command", LISTS)
def test_a_list_is_json_if_asked(tmp_path: Path, command: str) -> None:
    key, wanted = LISTS[command]
    assert {one[key] for one in json.loads(ssim(tmp_path, *command.split(), "--json").stdout)} == wanted


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ssim pol", {"policy"}),
        ("ssim policy check sl", {"slackfit"}),
        ("ssim policy check slackfit --table ofa-resnet50-r", {"ofa-resnet50-rtx2080ti"}),
        ("ssim run azure_", {name for name in names("experiments") if name.startswith("azure_")}),
        ("ssim trace describe poi", {"poisson"}),
        ("ssim report resu", {"resu"}),  # a file, which is left to the shell
    ],
)
def test_a_shell_completes_commands_and_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, completed: set[str]
) -> None:
    monkeypatch.setenv("_SSIM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    with pytest.raises(SystemExit):
        main(typed.split()[1:])
    assert {line.partition(",")[2] for line in capsys.readouterr().out.splitlines()} == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_ssim(tmp_path: Path, shell: str) -> None:
    assert f"_SSIM_COMPLETE={shell}_complete" in ssim(tmp_path, "completion", shell).stdout
