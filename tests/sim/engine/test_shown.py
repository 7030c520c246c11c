"""How objects look: short in a terminal, as a table in a notebook, and as Arrow and pandas tables."""

from __future__ import annotations

import numpy as np
import pytest

from policies.slackfit import SlackFit
from sim import Cluster, Outcome, Result, Trace, simulate
from sim.engine.result import NONE
from sim.tables.files import load_table
from sim.traces.synthetic import Poisson


@pytest.fixture(scope="module")
def result() -> Result:
    trace = Poisson(mean_qps=3000, duration_s=2, slo_ms=12).trace(seed=1)
    return simulate(trace, Cluster(workers=2, drop="hopeless"), load_table("ofa-resnet50-rtx2080ti"), SlackFit())


def test_reprs_are_one_short_line(result: Result) -> None:
    for shown in (result, result.trace, result.table, result.batches, result.cluster):
        assert len(repr(shown)) < 160, repr(shown)
        assert "array" not in repr(shown)


def test_html_is_a_table_whose_text_is_escaped(result: Result) -> None:
    named = Trace([0, 1], 5, 10, name="<script>", class_codes=[0, 1], class_names=("a&b", "c"))
    for shown in (result, result.trace, result.table, named):
        html = shown._repr_html_()
        assert html.count("<tr>") == html.count("</tr>") > 1
    assert "<script>" not in named._repr_html_()
    assert "a&amp;b" in named._repr_html_()


def test_the_arrow_table_says_what_the_arrays_say(result: Result) -> None:
    table, frame = result.to_arrow(), result.to_arrow().to_pandas()
    assert len(table) == len(frame) == len(result.trace)
    assert table["arrival_ns"].to_numpy().tolist() == result.trace.arrival_ns.tolist()
    assert (frame.outcome == "met").sum() == result.count(Outcome.MET)
    assert frame.start_ns.isna().sum() == np.count_nonzero(result.batch == NONE) > 0
    served = frame.dropna(subset="start_ns")
    assert served.groupby(["worker", "start_ns"]).size().sum() == result.batched
    assert all(field.metadata[b"meaning"] for field in table.schema)
