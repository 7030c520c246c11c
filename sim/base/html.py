"""Tables in HTML: what a notebook shows of an object."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def html_table(title: str, rows: Iterable[Sequence[object]], header: Sequence[object] = ()) -> str:
    """Return a table with a title.

    Args:
        title: The line above.
        rows: The cells, shown as text; the first of a row names it.
        header: Names of the columns; no header if empty.

    Examples:
        >>> html_table("a < b", [("x", 1)])
        '<p><b>a &lt; b</b></p><table><tr><th>x</th><td>1</td></tr></table>'
    """
    lines = [f"<tr>{''.join(f'<th>{escape(str(name))}</th>' for name in header)}</tr>"] if header else []
    for first, *others in rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in others)
        lines.append(f"<tr><th>{escape(str(first))}</th>{cells}</tr>")
    return f"<p><b>{escape(title)}</b></p><table>{''.join(lines)}</table>"
