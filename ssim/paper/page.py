"""The page that says what the paper claims and what came out here: `docs/reproduction.md`, made from stored results."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.tables import setting
from sim.base.errors import SsimError, StoreError
from ssim.paper.claims import CLAIMS
from ssim.paper.claims.claim import (
    Claim,
    Judged,
    Verdict,
    clipper,
    format_interval,
    gain_at_equal_attainment,
    ratio_at_equal_accuracy,
    values,
)
from ssim.paper.inference.report import sections

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from ssim.paper.inference.infer import Inferred
    from ssim.results.reading import Results


@dataclass(frozen=True, slots=True)
class Page:
    """The page and what it lacks.

    Attributes:
        text: Markdown.
        judged: Each claim and what became of it with nothing added.
        inferred: What became of each with what was inferred from the other figures; None where that is not searched.
        problems: Results that were missing, a line each.
    """

    text: str
    judged: tuple[tuple[Claim, Judged], ...]
    inferred: tuple[Judged | None, ...]
    problems: tuple[str, ...]


def page(results: Results, command: str, inferred: Inferred | None = None) -> Page:
    """Return the page from stored results; where some are missing it says so.

    Args:
        results: The stored results.
        command: What makes the page anew.
        inferred: What is compatible with the paper; None leaves it out.
    """
    problems: list[str] = []
    judged = tuple((claim, _judge(claim, results, problems)) for claim in CLAIMS)
    columns = tuple(None if inferred is None else inferred.column(claim) for claim in CLAIMS)
    parts = [_head(results, command), _claims(judged, columns)]
    if inferred is not None:
        parts += [f"## {heading}\n\n{section}" for heading, section in sections(inferred, _table)]
    for heading, section in _SECTIONS:
        try:
            parts.append(f"## {heading}\n\n{section(results)}")
        except SsimError as error:
            problems.append(str(error))
            parts.append(f"## {heading}\n\nNo results.\n")
    problems += [problem for problem in results.problems if problem not in problems]
    return Page("\n".join(parts), judged, columns, tuple(dict.fromkeys(problems)))


def _judge(claim: Claim, results: Results, problems: list[str]) -> Judged:
    try:
        return claim.judge(results)
    except SsimError as error:
        problems.append(str(error))
        return Judged("-", Verdict.NOT_TESTABLE, "No results: they are missing or damaged.")


def _head(results: Results, command: str) -> str:
    try:
        seeds = results.summary("azure_ideal")["seed"].nunique()
        length = f"{float(results.windows('azure_ideal', policy='slackfit')['start_s'].max()) + 1:.0f} s"
        made = f"{seeds} seeds" if seeds > 1 else "ONE SEED, no intervals"
        made += f"; the Azure trace is {length} long"
    except SsimError:
        made = "no results of the Azure trace"
    return f"""# What the paper claims, and what comes out here

Made by `{command}` from stored results ({made}); don't edit it. SuperServe
(Khare et al., NSDI 2025) against this simulator, disagreements included. Nothing is tuned to agree: the latency table
is the one that the authors published in a figure (`ssim table show ofa-resnet50-rtx2080ti`), the trace is a generator
calibrated to published statistics of Azure Functions 2019, and what the paper does not state stands in the YAML files
with the choice that was made, and is swept below. Means over seeds with 95 % Student-t intervals. *Reproduced* means
within a tenth of the paper's number, or that the statement holds; *direction only* that it points the same way.
"""


def _claims(judged: Sequence[tuple[Claim, Judged]], columns: Sequence[Judged | None]) -> str:
    sums = f"{len(judged)} with nothing added: {_counted([each.verdict for _, each in judged])}."
    if any(column is not None for column in columns):
        pairs = zip(judged, columns, strict=True)
        sums += (
            f" With what is inferred from all *other* figures: "
            f"{_counted([(column or each).verdict for (_, each), column in pairs])}; a claim that depends on nothing "
            "that was searched counts as it is."
        )
    rows = []
    for (one, each), column in zip(judged, columns, strict=True):
        inferred = ("as it is", "") if column is None else (column.ours, column.verdict.value)
        rows.append((one.statement, one.where, each.ours, each.verdict.value, *inferred, one.paper, each.why))
    head = ("claim", "where", "nothing added", "verdict", "inferred", "verdict", "paper", "why, with nothing added")
    return f"## Claims\n\n{sums}\n\n{_table(head, rows)}"


def _counted(verdicts: Sequence[Verdict]) -> str:
    count = Counter(verdicts)
    return ", ".join(f"{count[verdict]} {verdict.value}" for verdict in Verdict)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines) + "\n"


def _optimum(results: Results) -> str:
    rows = []
    for name, label in (("azure_ideal", "Azure"), ("bursty", "bursty"), ("overhead", "Azure")):
        try:
            gaps = results.gaps(name)
        except StoreError as error:  # told, and the others shown
            results.problems.append(str(error))
            continue
        swept = [column for column in gaps.columns if "." in column]
        for point, here in gaps.groupby(swept) if swept else [((), gaps)]:
            trace = ", ".join([label, *map(setting, swept, point)])
            bound = 100 * here.drop_duplicates("seed")["weighted_bound"]
            single = here[here["policy"].str.startswith("clipper")].groupby("policy")["weighted_share"].mean()
            shares = [here[here["policy"] == policy]["weighted_share"] for policy in ("slackfit", "maxbatch")]
            cells = [format_interval((100 * share).tolist()) for share in shares]
            rows.append(
                (trace, format_interval(bound.tolist()), *cells, f"{100 * single.max():.2f} ({single.idxmax()})")
            )
    head = ("trace", "at most", "SlackFit's share, %", "MaxBatch's share, %", "the best single subnet's share, %")
    return f"""Accuracy-weighted attainment (SLO attainment times mean serving accuracy, the objective of the paper's
optimal policy) against an upper bound on what *any* policy reaches on the same arrivals, clairvoyant ones included;
the proof is in [optimum.md](optimum.md). A share says how near a policy is at least: it may be nearer. `ssim optimum
experiments/NAME.yaml` finds them.

{_table(head, rows)}"""


def _exact(results: Results) -> str:
    gaps = results.gaps("small")
    if not {"optimum_lower", "optimum_upper"} <= set(gaps.columns):
        raise StoreError("small", "has no optimum", "", "`ssim optimum --exact experiments/small.yaml` finds it")
    rows = []
    for (overhead, policy), here in gaps.groupby(["cluster.dispatch_ms", "policy"], sort=False):
        ours, lower, upper, bound = (
            format_interval((100 * here[name]).tolist())
            for name in ("weighted_attainment", "optimum_lower", "optimum_upper", "weighted_bound")
        )
        share = format_interval((100 * here["weighted_attainment"] / here["optimum_upper"]).tolist())
        rows.append((f"{_shown(overhead)} ms", str(policy), ours, lower, upper, bound, share))
    head = (
        "overhead",
        "policy",
        "reaches, %",
        "optimum from",
        "to",
        "the bound for long traces",
        "share of the optimum, %",
    )
    return f"""The paper's zero-one program, solved for traces of about 50 queries on two workers
(`experiments/small.yaml`), in slots of 1 ms: times rounded up give a schedule that can be run (*from*), rounded down an
upper bound (*to*). Accuracy-weighted attainment; policies know nothing of what comes, the optimum knows all. So short
a burst leaves no time to recover, unlike the traces above.

{_table(head, rows)}"""


def _overhead(results: Results) -> str:
    runs = results.summary("overhead")
    rows = []
    for overhead, here in runs.groupby("cluster.dispatch_ms"):
        attained = {policy: values(here, policy, "slo_attainment") for policy in sorted(set(here["policy"]))}
        accuracy = format_interval(values(here, "slackfit", "mean_serving_accuracy"))
        gain, ratio = gain_at_equal_attainment(here)[0], ratio_at_equal_accuracy(here)[0]
        clippers = [format_interval(attained[clipper(name)], 3) for name in ("76.69", "77.64", "78.25", "79.44")]
        cells = [
            format_interval(gain, sign=True) if gain else "none attains as much",
            format_interval(ratio, 1) + "x" if ratio else "none",
        ]
        first = (
            f"{_shown(overhead)} ms",
            format_interval(attained["slackfit"], 5),
            accuracy,
            format_interval(attained["maxbatch"], 5),
        )
        rows.append((*first, ", ".join(clippers), *cells))
    head = (
        "overhead",
        "SlackFit attains",
        "accuracy, %",
        "MaxBatch attains",
        "Clipper+ 76.69, 77.64, 78.25, 79.44 attain",
    )
    table = _table((*head, "gain at equal attainment", "ratio at equal accuracy"), rows)
    return f"Not stated in the paper. Figure 8a with more on each batch (`experiments/overhead.yaml`).\n\n{table}"


def _swept(name: str, text: str) -> Callable[[Results], str]:
    """Return a section on an experiment: a row for each point and a column a policy, or a row a policy if none."""

    def section(results: Results) -> str:
        runs = results.summary(name)
        swept = [column for column in runs.columns if "." in column]
        return f"{text} `experiments/{name}.yaml`.\n\n{_pivot(runs, swept)}"

    return section


def _base(results: Results) -> str:
    """Return the section on the share of the steady stream: what is swept is a whole trace, told by its steady rate."""
    runs = results.summary("sensitivity_base")
    steady = runs["swept trace"].str.extract(r"'base_qps': (\d+)")[0].astype(int)
    text = "How much of 7,050 q/s is the steady stream; CV² 8, overhead 2 ms. `experiments/sensitivity_base.yaml`."
    return f"{text}\n\n{_pivot(runs.assign(**{'steady q/s': steady}), ['steady q/s'])}"


def _pivot(runs: pd.DataFrame, swept: Sequence[str]) -> str:
    policies = list(dict.fromkeys(runs["policy"]))
    if not swept:
        alone = [(policy, *_outcome(runs, policy).split(", ")) for policy in policies]
        return _table(("policy", "SLO attainment", "accuracy, %"), alone)
    rows = []
    for point, here in runs.groupby(list(swept), sort=False):
        rows.append((*map(_shown, point), *(_outcome(here, policy) for policy in policies)))
    names = [setting(column) for column in swept]
    return "SLO attainment, accuracy in %:\n\n" + _table((*names, *policies), rows)


def _outcome(runs: pd.DataFrame, policy: str) -> str:
    mine = runs[runs["policy"] == policy]
    known = mine["mean_serving_accuracy"].dropna().tolist()
    if mine.empty:
        return "-, -"
    return f"{format_interval(mine['slo_attainment'].tolist(), 5)}, {format_interval(known) if known else '-'}"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_SECTIONS: tuple[tuple[str, Callable[[Results], str]], ...] = (
    ("How near to the optimum", _optimum),
    ("The optimum itself, on small traces", _exact),
    ("The overhead of a batch", _overhead),
    (
        "The number of buckets",
        _swept(
            "buckets",
            "Not stated in the paper. 1,500 + 5,550 q/s, CV² 8, at the overheads of azure.yaml; see buckets.md.",
        ),
    ),
    (
        "Beyond six subnets",
        _swept("dense", "Figure 8a with 36 subnets, 30 of them PREDICTED, at the overheads of azure.yaml."),
    ),
    (
        "What a switch costs",
        _swept(
            "actuation",
            "Figures 1b and 1c. 8 ms is what a fast loader needs (Clockwork). SlackFit switches all the time.",
        ),
    ),
    (
        "How the coarse policy sees the rate",
        _swept("sensitivity_coarse", "The window over which the rate is counted, and what is left in reserve."),
    ),
    (
        "The SLO of the Azure runs, and what becomes of late queries",
        _swept("sensitivity_slo", "At an overhead of 3 ms a batch."),
    ),
    ("The steady stream", _base),
    ("When the ramp starts", _swept("sensitivity_ramp", "In the 120 s of a run; from 2,500 to 6,800 q/s.")),
)
