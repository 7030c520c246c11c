"""docs/own_network.md from an empty folder: each command as it stands, with a profile that ends early."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="trainings need the extra [torch]")

from PIL import Image

from ssim.files.own_modules import forget_modules
from tests.ssim.in_process import ssim
from tests.test_docs import ROOT, blocks, globbed

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/own_network.md"
QUICK = {"profile": ["--minutes", "0.5", "--precision", "0.9", "--max-batch", "4"]}
"""What is added to a command, so that it takes seconds."""

pytestmark = pytest.mark.slow


def shapes(folder: Path) -> None:
    """Draw images of three classes."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("circle", "cross", "square")):
        (folder / "photos" / name).mkdir(parents=True)
        for image in range(60):
            y, x = np.mgrid[:40, :40] - rng.integers(14, 26, (2, 1, 1))
            size = int(rng.integers(5, 12))
            is_inside = (
                x**2 + y**2 < size**2,
                (abs(x) < 2) & (abs(y) < size) | (abs(y) < 2) & (abs(x) < size),
                (abs(x) < size) & (abs(y) < size),
            )[number]
            pixels = rng.integers(0, 100, (40, 40, 3))
            pixels[is_inside] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / name / f"{image}.png")


def typed(folder: Path, console: str, *more: str) -> list[str]:
    """Type commands into a folder, and return what each printed."""
    printed = []
    for line in console.splitlines():
        _, *words = [path for word in shlex.split(line.removeprefix("$ ")) for path in globbed(folder, word, line)]
        ended = ssim(folder, *words, *QUICK.get(words[0], []), *more)
        assert ended.returncode == 0, f"{line}: {ended.stderr}"
        printed.append(ended.stdout)
        forget_modules()
    return printed


def put(folder: Path, kind: str, **files: str) -> None:
    """Write blocks of the page that begin or contain a text into files."""
    for name, text in files.items():
        (block,) = [block for block in blocks(PAGE, kind) if text in block]
        (folder / f"{name}.{'py' if kind == 'python' else 'yaml'}").write_text(block)


def accuracies(printed: str, subnets: str) -> list[float]:
    return [float(line.split()[3]) for line in printed.splitlines() if line.startswith(subnets)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which the first commands were typed, and what they printed."""
    folder = tmp_path_factory.mktemp("photos")
    shapes(folder)
    put(folder, "python", net="class Net")
    put(folder, "yaml", photos="name: photos", served="name: served")
    return folder, typed(folder, blocks(PAGE, "console")[0])


def test_from_images_to_a_picture_in_eight_commands_and_forty_lines(photos: tuple[Path, list[str]]) -> None:
    folder, (shown, trained, _, served) = photos
    files = [folder / name for name in ("net.py", "photos.yaml", "served.yaml")]
    assert len([line for path in files for line in path.read_text().splitlines() if line.strip()]) <= 40
    assert "subnets" in shown
    assert max(accuracies(trained, "Net:")) > 50  # of three classes
    assert "slackfit" in served
    assert (folder / "results/served/figures/tradeoff.png").stat().st_size > 10_000
    put(folder, "python", use="from net import Net")
    ended = subprocess.run([sys.executable, "use.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.stdout == "Net:d4:e1.0x4\n", ended.stderr


def test_it_is_served_live_and_compared_with_its_simulation(photos: tuple[Path, list[str]]) -> None:
    folder, _ = photos
    put(folder, "yaml", real="name: real")
    _, live, compared, _, again = typed(folder, blocks(PAGE, "console")[3])
    assert "Live: delays in ms" in live
    assert "differ in supernet" not in live
    assert "gives the same decisions: yes." in compared
    assert "slackfit" in again


def test_it_answers_requests(photos: tuple[Path, list[str]]) -> None:
    pytest.importorskip("aiohttp", reason="a server needs the extra [serve]")
    folder, _ = photos
    put(folder, "yaml", real="name: real")
    put(folder, "python", ask="import requests")
    words = shlex.split(blocks(PAGE, "console")[5].removeprefix("$ ssim "))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ssim", *words, "--http-port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as server:
        said = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in server.stderr or ())
        address = next(found[0] for found in said if found)
        page = (folder / "ask.py").read_text()
        (folder / "ask.py").write_text(page.replace("http://127.0.0.1:8000", address))
        asked = subprocess.run([sys.executable, "ask.py"], cwd=folder, capture_output=True, text=True, check=False)
        server.terminate()
        stored, _ = server.communicate()
    assert re.fullmatch(r"\[\S+, \S+, \S+\] \['Net:\S+'\] \[\S+\]\n", asked.stdout), asked.stderr
    assert "Live: delays in ms" in stored


def test_a_network_of_timm(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs timm")
    shapes(tmp_path)
    put(tmp_path, "python", timm_net="import timm")
    put(tmp_path, "yaml", photos="name: photos")
    (trained,) = typed(tmp_path, blocks(PAGE, "console")[1], "--set", "phases.0.epochs=1")
    assert len(accuracies(trained, "net:")) == 4  # it has one block in each stage


def test_transformers_of_texts(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    put(tmp_path, "python", text_nets="import BertConfig", texts="def which_book")
    put(tmp_path, "yaml", text="name: text")
    pages, code = sorted((ROOT / "docs").glob("*.md")), sorted((ROOT / "sim").rglob("*.py"))
    for name, files in {"first": pages, "second": code}.items():
        (tmp_path / f"{name}.txt").write_bytes(b"".join(path.read_bytes() for path in files)[:40_000])
    encoder, decoder = typed(tmp_path, blocks(PAGE, "console")[2])
    assert max(accuracies(encoder, "encoder:d")) > 60  # of two classes
    assert max(accuracies(decoder, "decoder:d")) > 10  # of 256
    assert re.search(r"accuracy +perplexity", decoder)
    assert "perplexity" not in encoder
    put(tmp_path, "yaml", real="name: real")
    _, live = typed(tmp_path, blocks(PAGE, "console")[4])
    assert "Live: delays in ms" in live


def test_a_regression(tmp_path: Path) -> None:
    put(tmp_path, "python", houses="def quantile")
    put(tmp_path, "yaml", houses="name: houses")
    numbers = np.random.default_rng(0).normal(size=(400, 4)).round(3)
    rows = [f"{','.join(map(str, row))},{row.sum():.3f}" for row in numbers]
    (tmp_path / "houses.csv").write_text("\n".join(["a,b,c,d,price", *rows]))
    explained, within = typed(tmp_path, blocks(PAGE, "console")[6])
    assert max(accuracies(explained, "net:")) > 70
    assert "within in %" in within
