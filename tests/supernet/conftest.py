"""One thread: the tests run in several processes, and threads that wait for each other make small networks slow."""

import torch

torch.set_num_threads(1)
