"""The site of the pages: it is whole, it asks no other server, and its pages of reference say what the code says."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.reference_pages import DOCS, pages

if TYPE_CHECKING:
    from pathlib import Path

ROOT = DOCS.parent
PAGES = pages()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site in a folder of its own: a dead link, a missing anchor or name of the API is an error."""
    pytest.importorskip("zensical", reason="the site needs the extra [docs]")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (folder / "mkdocs.yml").write_text(config.replace("paths: [.]", f"paths: [{ROOT}]"), encoding="utf-8")
    words = [sys.executable, "-m", "zensical", "build", "--strict"]
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / "build" / "site"


def test_the_site_leads_to_every_page(site: Path) -> None:
    sources = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    assert {site / f"{page}.html" for page in sources} <= set(site.rglob("*.html"))
    listed = set(re.findall(r"[\w/]+(?=\.md$)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {page.as_posix() for page in sources}


def test_a_page_asks_no_other_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        asked = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"(https?:[^\"]+)", text)
        asked += re.findall(r"<link[^>]*rel=\"(?:stylesheet|preconnect|icon)\"[^>]*href=\"(https?:[^\"]+)", text)
        assert not asked, page


@pytest.mark.parametrize("package", ["sim", "supernet", "profiler", "topology", "federated"])
def test_the_reference_has_every_public_name(site: Path, package: str) -> None:
    module = pytest.importorskip(package)
    text = (site / "api" / f"{package}.html").read_text(encoding="utf-8")
    public = [name for name in module.__all__ if inspect.isroutine(it := getattr(module, name)) or inspect.isclass(it)]
    assert [name for name in public if f'id="{package}.{name}"' not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_that_are_made_from_the_code_are_up_to_date(page: str) -> None:
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == PAGES[page], "python -m tests.reference_pages writes it again"


@pytest.mark.parametrize("folder", ["experiments", "topologies"])
def test_an_editor_finds_the_schema_of_every_shipped_file(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        (kind,) = re.findall(r"(?m)^schema: (\w+)/", text)
        (named,) = re.findall(r"(?m)^# yaml-language-server: \$schema=(.+)$", text)
        assert (path.parent / named).resolve() == DOCS / "reference" / f"{kind}.json", path


GENERATED = {"league.md", "reproduction.md", "zoo.md"}
"""Pages that a command writes."""
WIDTH = 120


@pytest.mark.parametrize(
    "page",
    [*(path for path in sorted(DOCS.glob("*.md")) if path.name not in GENERATED), ROOT / "README.md"],
    ids=lambda path: path.name,
)
def test_prose_is_wrapped(page: Path) -> None:
    """Tables, pictures, HTML and what stands in fences are as long as they must be."""
    parts = page.read_text(encoding="utf-8").split("```")
    prose = [line for part in parts[::2] for line in part.split("\n")]
    assert [line for line in prose if len(line) > WIDTH and not line.startswith(("|", "<", "!["))] == []
