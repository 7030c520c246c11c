"""Peak rates of GPUs, as their makers publish them."""

from __future__ import annotations

import re
from typing import NamedTuple

_NVIDIA = "NVIDIA's data sheet"


class DataSheet(NamedTuple):
    """The data sheet of a device.

    Attributes:
        name: The name of the device in tables.
        tflops: Single precision, without tensor cores, in 1e12 operations per second.
        gb_per_s: Memory bandwidth in 1e9 bytes per second.
        source: Where these figures come from.
    """

    name: str
    tflops: float
    gb_per_s: float
    source: str = _NVIDIA


_B200 = (
    "148 multiprocessors of 128 cores, 2 operations at 1.98 GHz; a bus of 7680 bits, 2 transfers at 3996 MHz, as the "
    "driver reports it (github.com/pytorch/ao/pull/4002)"
)
DATA_SHEETS = {
    "rtx2080ti": DataSheet("NVIDIA RTX 2080 Ti", 13.45, 616),
    "rtx3090": DataSheet("NVIDIA RTX 3090", 35.6, 936),
    "rtx4090": DataSheet("NVIDIA RTX 4090", 82.6, 1008),
    "rtx5090": DataSheet("NVIDIA RTX 5090", 104.8, 1792, "NVIDIA's white paper on the RTX Blackwell architecture"),
    "t4": DataSheet("NVIDIA T4", 8.1, 320),
    "v100": DataSheet("NVIDIA V100 SXM2", 15.7, 900),
    "a10": DataSheet("NVIDIA A10", 31.2, 600),
    "a30": DataSheet("NVIDIA A30", 10.3, 933),
    "a40": DataSheet("NVIDIA A40", 37.4, 696),
    "a100": DataSheet("NVIDIA A100 SXM4 80 GB", 19.5, 2039),
    "a6000": DataSheet("NVIDIA RTX A6000", 38.7, 768),
    "rtx6000ada": DataSheet("NVIDIA RTX 6000 Ada", 91.1, 960),
    "l4": DataSheet("NVIDIA L4", 30.3, 300),
    "l40s": DataSheet("NVIDIA L40S", 91.6, 864),
    "h20": DataSheet("NVIDIA H20 96 GB", 44, 4000, "NVIDIA's specification, as the press reported it"),
    "h100": DataSheet("NVIDIA H100 SXM5", 66.9, 3350),
    "h200": DataSheet("NVIDIA H200 SXM", 66.9, 4800),
    "gh200": DataSheet("NVIDIA GH200 96 GB", 67, 4000),
    "b200": DataSheet("NVIDIA B200", 148 * 128 * 2 * 1.98e-3, 7680 / 8 * 2 * 3.996, _B200),
    "mi300x": DataSheet("AMD Instinct MI300X", 163.4, 5300, "AMD's data sheet"),
}
"""By the names of `--device`."""

_OTHER = frozenset(["ti", "super", "laptop", "mobile", "d", "pcie", "nvl", "mig", "40gb", "144g", "3e"])
"""Words in a device's name that mean another device than the one of a data sheet: slower, or with other memory."""


def find_data_sheet(device: str) -> DataSheet | None:
    """Return the data sheet of a device by its name in torch or in a table; None if there is none of exactly this one.

    Examples:
        >>> find_data_sheet("NVIDIA A100-SXM4-80GB").name
        'NVIDIA A100 SXM4 80 GB'
        >>> find_data_sheet("NVIDIA A100-PCIE-40GB")
    """
    words = re.findall("[a-z0-9]+", device.lower())
    runs = ((begin, end) for begin in range(len(words)) for end in range(len(words), begin, -1))
    for begin, end in runs:
        sheet = DATA_SHEETS.get("".join(words[begin:end]))
        if sheet is not None:
            return None if _OTHER & {*words[:begin], *words[end:]} else sheet
    return None
