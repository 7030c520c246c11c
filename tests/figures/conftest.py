"""Tables as the runner makes them, small."""

import numpy as np
import pandas as pd
import pytest

ACCURACIES = (73.82, 76.69, 77.64, 78.25, 79.44, 80.16)


@pytest.fixture
def summary() -> pd.DataFrame:
    """Return eleven policies, three seeds; the fixed subnets miss nothing, and two policies fall on one point."""
    fixed = [(f"clipper(accuracy={accuracy:g})", 1.0, accuracy) for accuracy in ACCURACIES]
    others = [
        ("slackfit", 0.9999, 79.4),
        ("maxbatch", 0.9999, 79.4),
        ("infaas", 1.0, 73.82),
        ("maxacc", 0.0003, 76.6),
        ("coarse", 0.93, 78.7),
    ]
    return pd.DataFrame(
        [
            {
                "policy": policy,
                "trace": "poisson",
                "seed": seed,
                "slo_attainment": attained if attained == 1 else attained - 1e-5 * seed,
                "mean_serving_accuracy": accuracy,
            }
            for policy, attained, accuracy in fixed + others
            for seed in range(3)
        ]
    )


@pytest.fixture
def windows() -> pd.DataFrame:
    """Return two policies over ten seconds, two seeds."""
    return pd.DataFrame(
        [
            {
                "policy": policy,
                "seed": seed,
                "start_s": float(second),
                "ingest_per_s": 6000.0 + 100 * second,
                "serving_accuracy": accuracy,
                "batch_size": 8.0 + seed,
                "slo_attainment": 1.0 if second % 2 else 0.999,
                "workers_busy": np.nan,
            }
            for policy, accuracy in (("slackfit", 79.0), ("clipper(accuracy=78.25)", 78.25))
            for seed in range(2)
            for second in range(10)
        ]
    )
