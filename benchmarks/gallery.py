"""The pictures of docs/gallery.md: `python -m benchmarks.gallery` types its commands and copies what they draw.

The title of each picture says where its commands leave it. Takes some ten minutes on one core.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Type the commands of the gallery in an empty folder, and take over its pictures."""
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    (first,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "first.yaml").write_text(first, encoding="utf-8")
        typed = dict.fromkeys(re.findall(r"^\$ ssim (.+)$", page, re.MULTILINE))
        for line in typed:
            subprocess.run([sys.executable, "-m", "ssim", *shlex.split(line)], cwd=folder, check=True)
        for target, source in re.findall(r"\]\((pictures/\S+) \"(.+?)\"\)", page):
            shutil.copyfile(folder / source, DOCS / target)


if __name__ == "__main__":
    main()
