"""One thread for torch: tests run side by side, and threads that wait for each other's cores take far longer."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
