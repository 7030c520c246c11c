"""Draws the figures of the paper from stored results, in each width in which they can be read, and an index page."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

from figures.style import COLUMN_IN, save
from sim.base.errors import SsimError, StoreError
from sim.base.whole_file import translate_os_errors, write_text
from ssim.paper.pictures import PICTURES, Picture
from ssim.results.reading import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Gallery:
    """What came of drawing.

    Attributes:
        index: The page that shows all pictures.
        drawn: Their PNG files.
        problems: What could not be drawn, or was drawn without some of its runs, a line each.
    """

    index: Path
    drawn: tuple[Path, ...]
    problems: tuple[str, ...]


def draw_all(
    results: Path,
    pictures: Sequence[Picture] | None = None,
    on_drawn: Callable[[Path], None] = lambda _path: None,
) -> Gallery:
    """Draw figures into `figures/` below the folder of results; what can't be drawn is told and the rest drawn.

    A picture that can't be drawn any more is removed: what is there is what the results say.

    Args:
        results: The folder of all results; only `figures/` in it is written to.
        pictures: Which; None for all.
        on_drawn: Told the PNG file of each.

    Raises:
        StoreError: Files can't be written.
    """
    stored = Results(results)
    folder = results / "figures"
    problems: list[str] = []
    shown: list[tuple[Picture, list[Path]]] = []
    for picture in PICTURES if pictures is None else pictures:
        paths: list[Path] = []
        try:
            for width in picture.widths:
                figure = picture.draw(stored, width)
                stem = folder / ("column" if width == COLUMN_IN else "page") / picture.name
                with translate_os_errors(stem):
                    stem.parent.mkdir(parents=True, exist_ok=True)
                paths.append(next(path for path in save(figure, stem) if path.suffix == ".png"))
        except SsimError as error:
            if isinstance(error, StoreError) and str(folder) in error.location:
                raise
            problems.append(f"{picture.name} ({picture.paper or 'not in the paper'}): not drawn: {error}")
            for path in folder.glob(f"*/{picture.name}.*"):
                path.unlink()
            paths = []
        for path in paths:
            on_drawn(path)
        shown.append((picture, paths))
    problems += [f"drawn without {problem}" for problem in stored.problems]
    write_text(folder / "index.html", _page(shown, folder))
    drawn = tuple(path for _, paths in shown for path in paths)
    return Gallery(folder / "index.html", drawn, tuple(problems))


_NO_EXPERIMENT = "no experiment: published, counted from the supernet, or measured by ssim reproduce"

_STYLE = (
    "body{font:16px/1.4 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "section{margin:2.5em 0;break-inside:avoid}img{max-width:100%;display:block;margin:.5em 0}"
    ".none{color:#6e6e6e}"
)


def _page(shown: Sequence[tuple[Picture, list[Path]]], folder: Path) -> str:
    """Return the index page: no script, no network, nothing but the pictures beside it."""
    sections = []
    for picture, paths in shown:
        where = f"{picture.paper}: " if picture.paper else ""
        source = f"experiments/{picture.source}.yaml" if picture.source else _NO_EXPERIMENT
        heading = f"<h2 id={picture.name!r}>{html.escape(where + picture.title)}</h2>"
        if not paths:
            sections.append(f"<section>{heading}<p class=none>not drawn; from {source}</p></section>")
            continue
        files = [path.relative_to(folder).as_posix() for path in paths]
        stems = [file.removesuffix(".png") for file in files]
        links = ", ".join(
            f"<a href={stem + ending!r}>{stem.partition('/')[0]} {ending[1:].upper()}</a>"
            for stem in stems
            for ending in (".pdf", ".svg", ".png")
        )
        inches = COLUMN_IN if files[0].startswith("column") else 2 * COLUMN_IN
        image = f"<img src={files[0]!r} alt={html.escape(picture.title)!r} style='width:{1.6 * inches:.1f}in'>"
        sections.append(f"<section>{heading}{image}<p>{source}; {links}</p></section>")
    title = "SuperServe's figures, from stored results"
    head = f"<meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en>{head}<h1>{title}</h1>\n" + "\n".join(sections) + "\n</html>\n"
