"use strict";
const { experiments, shares: SHARES } = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const PANELS = [
  ["ingest_per_s", "ingest (q/s)", ",.0f"],
  ["serving_accuracy", "serving accuracy (%)", ".2f"],
  ["batch_size", "batch size", ".1f"],
  ["workers_busy", "workers busy", ".2f"],
  ["slo_attainment", "SLO attainment", ".4f"],
];
// The buttons that are wanted, not those that are not: each version of plotly brings others, one of which uploads the chart.
const BUTTONS = [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]];
const LOOK = { displaylogo: false, responsive: true, modeBarButtons: BUTTONS };
const DARK = matchMedia("(prefers-color-scheme: dark)");
const STATES = { serving: "#56B4E9", starting: "#9a9a9a", failed: "#b3261e" };
const KINDS = ["#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2"];
let shown, run, number;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const narrow = () => innerWidth < 700;

// Draws a chart in the colours of the page: those of the browser's scheme, and on paper always the light ones.
function plot(id, traces, layout) {
  if (!window.Plotly) return; // all is drawn again when it is there
  for (const [name, axis] of Object.entries(layout))
    if (/^[xy]axis/.test(name)) layout[name] = { gridcolor: colour("--line"), zerolinecolor: colour("--faint"), ...axis };
  if (!by(id).classList.contains("js-plotly-plot")) by(id).textContent = "";
  Plotly.react(id, traces, {
    font: { family: "system-ui, sans-serif", size: 13, color: colour("--ink") },
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", hoverlabel: { bgcolor: colour("--paper"), font: { color: colour("--ink") } },
    margin: { l: 80, r: 20, t: 30, b: 50 }, ...layout,
  }, LOOK);
}

function instead(id, text) {
  window.Plotly?.purge(id);
  by(id).textContent = text;
}

// An axis that tells 0.999 from 1: nines from below, and 1, where nothing is missed, above them all.
const nines = (attainment) => (attainment === null || attainment === 1 ? attainment : -Math.log10(1 - attainment));

function miss_axis(attainments) {
  const most = Math.max(1, ...attainments.filter((one) => one !== null && one < 1).map(nines));
  const top = Math.ceil(most + 0.01) + 1;
  const steps = [...Array(top).keys()];
  const tickvals = [...steps.filter((one) => one < 7 || one % 2 === 0), top];
  return {
    place: (attainment) => (attainment === 1 ? top : attainment === null ? null : Math.min(nines(attainment), top - 0.5)),
    axis: {
      range: [-0.2, top + 0.3], tickvals, zeroline: false,
      ticktext: tickvals.map((one) => (one === top ? "1" : String(Number((1 - 10 ** -one).toFixed(one || 1))))),
    },
  };
}

function options(select, names) {
  select.replaceChildren(...names.map((name, number) => new Option(name, number)));
  (select.closest(".choice") ?? select).classList.toggle("hidden", names.length < 2);
}

// What is drawn of a run is read when it is first asked for, so that a page of hundreds of runs opens soon.
function drawn(place) {
  const one = shown.runs[place];
  if (!one.read) Object.assign(one, JSON.parse(by(`run-${number}-${place}`).textContent), { read: true });
  return one;
}

// Tables: a click on a heading sorts, a row of the summary is chosen by a click or by Enter.

const own = (selector) => [...document.querySelectorAll(`[data-experiment="${number}"] ${selector}`)];

function prepare(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.onclick = () => sort(table, column, head.ariaSort === "ascending");
    head.replaceChildren(button);
  });
  if (table.classList.contains("summary"))
    for (const row of table.tBodies[0].rows) {
      row.tabIndex = 0;
      const { policy, point } = shown.table[row.dataset.row];
      row.onclick = () => draw_run(shown.runs.findIndex((one) => one.policy === policy && one.point === point));
      row.onkeydown = (event) => { if (event.key === "Enter") row.onclick(); };
    }
}

function sort(table, column, falls) {
  const text = (row) => row.cells[column].textContent;
  const value = (row) => parseFloat(text(row).replaceAll(",", ""));
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    const [x, y] = [value(one), value(other)];
    const order = isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) || text(one).localeCompare(text(other)) : x - y;
    return falls ? -order : order;
  });
  table.tBodies[0].append(...rows);
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].ariaSort = falls ? "descending" : "ascending";
}

function filter() {
  const wanted = by("filter").value.toLowerCase();
  let [matching, all] = [0, 0];
  for (const row of own("tbody tr")) {
    const words = [...row.cells].filter((one) => one.classList.contains("text")).map((one) => one.textContent);
    row.hidden = !words.join(" ").toLowerCase().includes(wanted);
    [matching, all] = [matching + !row.hidden, all + 1];
  }
  by("matching").textContent = wanted ? `${matching} of ${all} rows` : "";
}

function mark() {
  for (const row of own(".summary tbody tr")) {
    const { policy, point } = shown.table[row.dataset.row];
    row.classList.toggle("chosen", policy === run.policy && point === run.point);
  }
}

const at = (point) => shown.swept.map((key, place) => `${key} = ${shown.points[point][place]}`).join(", ");

function told(row, column) {
  const [mean, half] = row.values[column], digits = shown.measures[column][1];
  return mean === null ? "-" : mean.toFixed(digits) + (half && Number(half.toFixed(digits)) ? ` ± ${half.toFixed(digits)}` : "");
}

// Charts

const interval = (half) => ({ type: "data", array: [half ?? 0], visible: half !== null, thickness: 1, width: 0 });

function interval_of_misses([mean, half], place) {
  const above = place(Math.min(1, mean + (half ?? 0))) - place(mean);
  const below = place(mean) - place(Math.max(0, mean - (half ?? 0)));
  return { ...interval(half), symmetric: false, array: [above], arrayminus: [below] };
}

function bound_line([attainment, weighted], rows, place) {
  const accuracies = rows.map((row) => row.values.mean_serving_accuracy[0]);
  const [low, high] = [Math.min(...accuracies), Math.max(...accuracies)], margin = (high - low) / 10 || 0.5;
  const x = [...Array(201).keys()].map((one) => low - margin + ((high - low + 2 * margin) * one) / 200);
  const y = x.map((one) => Math.min(attainment, (100 * weighted) / one));
  return {
    x, y: y.map(place), customdata: y, mode: "lines", name: "bound on any policy", line: { color: colour("--faint"), width: 1.5, dash: "dot" },
    hovertemplate: "no policy attains more than %{customdata:.6f}<br>at an accuracy of %{x:.2f} %<extra></extra>",
  };
}

function draw_tradeoff() {
  const point = Number(by("point").value || 0), bound = shown.bounds[point];
  const [rows, unmet] = [[], []];
  for (const row of shown.table)
    if (row.point === point) (row.values.mean_serving_accuracy?.[0] == null ? unmet : rows).push(row);
  const { place, axis } = miss_axis(rows.map((row) => row.values.slo_attainment[0]));
  const traces = rows.map((row) => {
    const look = shown.policies[row.policy], accuracy = row.values.mean_serving_accuracy;
    return {
      x: [accuracy[0]], y: [place(row.values.slo_attainment[0])], name: look.name, mode: "markers",
      error_x: interval(accuracy[1]), error_y: interval_of_misses(row.values.slo_attainment, place),
      marker: { color: look.colour, symbol: look.symbol, size: 12, line: { width: 2, color: look.colour } },
      hovertemplate: `<b>${escaped(look.name)}</b><br>SLO attainment ${told(row, "slo_attainment")}` +
        `<br>accuracy ${told(row, "mean_serving_accuracy")} %<extra></extra>`,
    };
  });
  if (bound && rows.length) traces.unshift(bound_line(bound, rows, place));
  for (const line of own(".lines li")) line.hidden = Number(line.dataset.point) !== point;
  const note = unmet.length ? `no query met: ${unmet.map((row) => escaped(shown.policies[row.policy].name)).join(", ")}` : "";
  plot("tradeoff", traces, {
    hovermode: "closest", showlegend: true, legend: narrow() ? { orientation: "h", y: -0.4 } : {},
    title: { text: note, font: { size: 12 }, x: 0 },
    xaxis: { title: { text: "mean serving accuracy (%)" } },
    yaxis: { title: { text: "SLO attainment" }, ...axis },
  });
}

// Plotly reads some tags in texts.
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

const spread = () => shown.swept.map((_, place) => [...new Set(shown.points.map((point) => point[place]))]);

function draw_map() {
  const values = spread(), keys = values.flatMap((found, place) => (found.length > 1 ? [place] : []));
  by("map").classList.toggle("hidden", keys.length < 2);
  if (keys.length < 2) return;
  const policy = Object.keys(shown.policies)[by("map-policy").value], column = Object.keys(shown.measures)[by("map-measure").value];
  const down = keys[by("map-down").value], across = keys[by("map-across").value];
  if (down === across) return instead("heatmap", "Choose two keys.");
  const fixed = shown.points[Number(by("point").value || 0)];
  const found = (row, y, x) => {
    const point = shown.points[row.point];
    return point[down] === y && point[across] === x && keys.every((key) => key === down || key === across || point[key] === fixed[key]);
  };
  const cells = values[down].map((y) => values[across].map((x) => shown.table.find((row) => row.policy === policy && found(row, y, x))));
  const means = cells.map((line) => line.map((row) => (row ? row.values[column][0] : null)));
  const { place, axis } = miss_axis(means.flat()), misses = column === "slo_attainment";
  const others = keys.filter((key) => key !== down && key !== across).map((key) => `${shown.swept[key]} = ${fixed[key]}`);
  const label = shown.measures[column][0];
  plot("heatmap", [{
    type: "heatmap", x: values[across], y: values[down], z: misses ? means.map((line) => line.map(place)) : means,
    text: cells.map((line) => line.map((row) => (row ? told(row, column).split(" ")[0] : ""))), texttemplate: "%{text}",
    colorscale: [[0, "#eff3ff"], [1, "#08519c"]], xgap: 2, ygap: 2, hoverongaps: false,
    hoverinfo: "text", hovertext: cells.map((line) => line.map((row) => (row ? `${escaped(at(row.point))}<br>${label} ${told(row, column)}` : ""))),
    colorbar: { title: { text: label, side: "right" }, ...(misses ? { tickvals: axis.tickvals, ticktext: axis.ticktext } : {}) },
  }], {
    xaxis: { type: "category", title: { text: escaped(shown.swept[across]) } },
    yaxis: { type: "category", title: { text: escaped(shown.swept[down]) }, autorange: "reversed", automargin: true },
    title: { text: escaped(others.join(", ")), font: { size: 12 }, x: 0 },
  });
}

// The runs that meet the same arrivals; the chosen one last, so that it lies above the others.
const together = () => shown.runs.flatMap((one, place) => (one.point === run.point && one.seed === run.seed && one !== run ? [drawn(place)] : [])).concat(run);

function draw_run(place) {
  run = drawn(place);
  by("run").value = place;
  by("manifest").textContent = JSON.stringify(run.manifest, null, 2);
  mark();
  draw_dynamics();
  draw_workers();
  draw_latency();
}

function draw_dynamics() {
  by("time").disabled = !run.windows;
  by("now").textContent = "";
  if (!run.windows) return instead("dynamics", "Of this run only its figures were kept (keep: windows keeps what is shown here).");
  const runs = together().filter((one) => one.windows);
  const { place, axis } = miss_axis(runs.flatMap((one) => one.windows.slo_attainment));
  const traces = runs.flatMap((one) => curves(one, place, one === run));
  const times = steps(run);
  const layout = {
    margin: { l: 80, r: 20, t: 30, b: 40 }, showlegend: true, hovermode: "x unified", legend: { orientation: "h", y: -0.09 },
    xaxis: { title: { text: "time (s)" }, anchor: `y${PANELS.length}`, range: [times[0], times.at(-1)] },
    shapes: [line(times[0])],
  };
  PANELS.forEach(([column, name], place) => {
    const high = 1 - place / PANELS.length;
    layout[place ? `yaxis${place + 1}` : "yaxis"] = {
      domain: [high - 1 / PANELS.length + 0.025, high], title: { text: name.replace(" (", "<br>("), font: { size: 11 } },
      rangemode: column === "serving_accuracy" ? "normal" : "tozero", nticks: 4, ...(column === "slo_attainment" ? axis : {}),
    };
  });
  plot("dynamics", traces, layout);
  by("time").max = run.windows.start_s.length - 1;
  by("time").value = 0;
  tell(0);
}

// A step ends where the next one begins: so one more than there are windows.
const steps = (one) => [...one.windows.start_s, one.windows.end_s.at(-1)];

function curves(one, place, chosen) {
  const { colour, dash, name } = shown.policies[one.policy];
  return PANELS.flatMap(([column, , format], panel) => {
    if (column === "ingest_per_s" && !chosen) return []; // the load is the same for all
    const values = one.windows[column], drawn = column === "slo_attainment" ? values.map(place) : values;
    return {
      x: steps(one), y: [...drawn, drawn.at(-1)], customdata: [...values, values.at(-1)],
      name: escaped(name), legendgroup: one.policy, showlegend: panel === 1, xaxis: "x", yaxis: panel ? `y${panel + 1}` : "y", mode: "lines",
      line: { shape: "hv", width: chosen ? 2.2 : 1.2, color: panel ? colour : "#6e6e6e", dash: panel ? dash : "solid" }, opacity: chosen ? 1 : 0.8,
      hovertemplate: `%{customdata:${format}}`,
    };
  });
}

const line = (x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: "#b3261e", width: 1.5 } });

function tell(place) {
  const values = PANELS.map(([column, name]) => {
    const value = run.windows[column][place];
    return `${name.replace(/ \(.*/, "")} ${value === null ? "-" : value.toLocaleString("en", { maximumSignificantDigits: 5 })}`;
  });
  by("now").textContent = `${run.windows.start_s[place]} to ${run.windows.end_s[place]} s: ${values.join(", ")}`;
}

function draw_workers() {
  by("staff").classList.toggle("hidden", !run.workers);
  if (!run.workers) return;
  const { spans, workers, left_out } = run.workers;
  const states = [...new Set(spans.map((span) => span[3]))].sort((a, b) => (a in STATES) - (b in STATES) || a.localeCompare(b));
  const traces = states.map((state, place) => {
    const some = spans.filter((span) => span[3] === state);
    return {
      type: "bar", orientation: "h", name: escaped(state), y: some.map((span) => span[0]), base: some.map((span) => span[1]),
      x: some.map((span) => span[2] - span[1]), customdata: some.map((span) => span[2]), width: 0.9,
      marker: { color: STATES[state] ?? KINDS[place % KINDS.length], line: { width: 0 } },
      hovertemplate: `worker %{y}: ${escaped(state)} from %{base:.5g} to %{customdata:.5g} s<extra></extra>`,
    };
  });
  by("staff-note").textContent = `When each of ${workers} workers could serve, from the first (above) to the last.` +
    (left_out ? ` ${left_out} more spans are not drawn.` : "");
  plot("workers", traces, {
    barmode: "overlay", showlegend: true, legend: { orientation: "h", y: -0.2 }, hovermode: "closest",
    xaxis: { title: { text: "time (s)" }, range: run.windows ? [steps(run)[0], steps(run).at(-1)] : undefined },
    yaxis: { title: { text: "worker" }, range: [workers - 0.5, -0.5], tickformat: "d", nticks: Math.min(workers + 1, 8) },
  });
}

function draw_latency() {
  by("tail").disabled = !run.latency;
  if (!run.latency) return instead("latency", "Of this run no latencies were kept, or no query was answered (keep: requests keeps them).");
  const runs = together().filter((one) => one.latency), tail = by("tail").checked;
  const share = (one) => SHARES.map((value) => value * one.latency.answered);
  const { place, axis } = miss_axis(runs.flatMap(share));
  const traces = runs.map((one) => {
    const { colour, dash, name } = shown.policies[one.policy], y = share(one);
    return {
      x: one.latency.ms, y: tail ? y.map(place) : y, customdata: y, name: escaped(name), mode: "lines",
      line: { color: colour, dash, width: one === run ? 2.4 : 1.2 },
      hovertemplate: `<b>${escaped(name)}</b><br>%{customdata:.4f} of the queries<br>within %{x:.4g} ms<extra></extra>`,
    };
  });
  const slo = run.latency.slo_ms;
  plot("latency", traces, {
    showlegend: true, hovermode: "closest", legend: narrow() ? { orientation: "h", y: -0.4 } : {},
    xaxis: { title: { text: "latency (ms)" }, type: "log" },
    yaxis: { title: { text: "share of queries" }, ...(tail ? axis : { range: [0, 1.03] }) },
    shapes: slo === null ? [] : [line(slo)],
    annotations: slo === null ? [] : [{ x: Math.log10(slo), y: 1, yref: "paper", yanchor: "bottom", text: `SLO ${slo} ms`, showarrow: false }],
  });
}

function draw(place) {
  [number, shown, run] = [place, experiments[place], null];
  for (const part of document.querySelectorAll(".experiment")) part.classList.toggle("hidden", Number(part.dataset.experiment) !== number);
  options(by("point"), shown.points.map((_, number) => at(number)));
  options(by("run"), shown.runs.map((one) => [one.policy, at(one.point), `seed ${one.seed}`].filter(Boolean).join(", ")));
  by("run").classList.remove("hidden");
  const keys = spread().flatMap((found, place) => (found.length > 1 ? [shown.swept[place]] : []));
  options(by("map-policy"), Object.values(shown.policies).map((one) => one.name));
  options(by("map-measure"), Object.values(shown.measures).map(([name]) => name));
  for (const id of ["map-policy", "map-measure"]) by(id).classList.remove("hidden");
  options(by("map-down"), keys);
  options(by("map-across"), keys);
  by("map-across").value = 1;
  by("map-down").closest(".choice").classList.toggle("hidden", keys.length < 3);
  for (const table of own("table")) if (!table.querySelector("button")) prepare(table);
  by("filter").value = "";
  filter();
  draw_tradeoff();
  draw_map();
  draw_run(0);
}

by("experiment").onchange = (event) => draw(Number(event.target.value));
by("point").onchange = () => { draw_tradeoff(); draw_map(); };
for (const id of ["map-policy", "map-measure", "map-down", "map-across"]) by(id).onchange = draw_map;
by("run").onchange = (event) => draw_run(Number(event.target.value));
by("time").oninput = (event) => {
  const place = Number(event.target.value);
  tell(place);
  window.Plotly?.relayout("dynamics", { shapes: [line(run.windows.start_s[place])] });
};
by("tail").onchange = draw_latency;
by("filter").oninput = filter;
DARK.onchange = () => draw(number);
options(by("experiment"), experiments.map((one) => one.name));
draw(0);
// Plotly takes longer to read than all the rest: the page is shown, and its tables work, before it is begun.
requestAnimationFrame(() => setTimeout(() => {
  const script = document.createElement("script");
  script.textContent = by("plotly").textContent;
  document.head.append(script);
  const place = shown.runs.indexOf(run);
  for (const step of [draw_tradeoff, draw_map, () => draw_run(place), () => { document.body.dataset.ready = "yes"; }]) setTimeout(step);
}));
document.body.dataset.tables = "yes";
