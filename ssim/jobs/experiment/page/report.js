"use strict";
const { columns: COLUMNS, class_columns: CLASS_COLUMNS, experiments } = JSON.parse(document.getElementById("data").textContent);
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
let shown, run, sorted = { column: null, falls: false };

// Colours of the page: those of the browser's scheme, and on paper always the light ones.
function themed(layout) {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  for (const [name, axis] of Object.entries(layout))
    if (/^[xy]axis/.test(name)) layout[name] = { gridcolor: colour("--line"), zerolinecolor: colour("--faint"), ...axis };
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: colour("--ink") },
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", hoverlabel: { bgcolor: colour("--paper"), font: { color: colour("--ink") } },
    ...layout,
  };
}

// An axis that tells 0.999 from 1: nines from below, and 1, where nothing is missed, above them all.
const nines = (attainment) => (attainment === null || attainment === 1 ? attainment : -Math.log10(1 - attainment));

function miss_axis(attainments) {
  const most = Math.max(1, ...attainments.filter((one) => one !== null && one < 1).map(nines));
  const top = Math.ceil(most + 0.01) + 1;
  const steps = [...Array(top).keys()];
  const tickvals = [...steps.filter((one) => one < 7 || one % 2 === 0), top];
  return {
    place: (attainment) => (attainment === 1 ? top : nines(attainment)),
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

function cell(row, text, kind = "td", isText = false) {
  const made = document.createElement(kind);
  made.textContent = text;
  made.classList.toggle("text", isText);
  row.append(made);
}

function table() {
  const head = document.createElement("tr");
  const names = ["policy", ...shown.swept, ...COLUMNS.map(([, name]) => name), "seeds"];
  names.forEach((name, number) => {
    cell(head, "", "th", number <= shown.swept.length);
    const button = document.createElement("button");
    button.textContent = name;
    button.onclick = () => { sorted = { column: number, falls: sorted.column === number && !sorted.falls }; table(); };
    if (sorted.column === number) head.lastChild.ariaSort = sorted.falls ? "descending" : "ascending";
    head.lastChild.append(button);
  });
  const texts = (entry) => [
    entry.policy, ...shown.points[entry.point].values, ...COLUMNS.map(([column]) => entry.shown[column]), String(entry.runs)];
  const wanted = by("filter").value.toLowerCase();
  const entries = shown.table.filter((entry) => texts(entry).slice(0, shown.swept.length + 1).join(" ").toLowerCase().includes(wanted));
  if (sorted.column !== null) {
    const value = (entry) => texts(entry)[sorted.column];
    const number = (text) => parseFloat(text.replaceAll(",", ""));
    entries.sort((one, other) => {
      const [a, b] = [value(one), value(other)], [x, y] = [number(a), number(b)];
      const order = isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) || a.localeCompare(b) : x - y;
      return sorted.falls ? -order : order;
    });
  }
  const rows = entries.map((entry) => {
    const row = document.createElement("tr");
    row.tabIndex = 0;
    row.entry = entry;
    cell(row, entry.policy, "td", true);
    shown.points[entry.point].values.forEach((value) => cell(row, value, "td", true));
    COLUMNS.forEach(([column]) => cell(row, entry.shown[column]));
    cell(row, entry.runs);
    const choose = () => draw_run(shown.runs.findIndex((one) => one.policy === entry.policy && one.point === entry.point));
    row.onclick = choose;
    row.onkeydown = (event) => { if (event.key === "Enter") choose(); };
    return row;
  });
  by("table").replaceChildren(document.createElement("thead"), document.createElement("tbody"));
  by("table").tHead.append(head);
  by("table").tBodies[0].append(...rows);
  if (run) mark();
}

function mark() {
  [...by("table").tBodies[0].rows].forEach((row) =>
    row.classList.toggle("chosen", row.entry.policy === run.policy && row.entry.point === run.point));
}

function at(point) {
  return shown.swept.map((key, place) => `${key} = ${shown.points[point].values[place]}`).join(", ");
}

function draw_classes(point) {
  const rows = shown.table.filter((row) => row.point === point);
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.classes)))];
  const head = document.createElement("tr");
  ["class or queue", "policy", ...CLASS_COLUMNS].forEach((name, number) => cell(head, name, "th", number < 2));
  const body = names.flatMap((name) => rows.filter((row) => name in row.classes).map((entry) => {
    const row = document.createElement("tr");
    [name, entry.policy].forEach((text) => cell(row, text, "td", true));
    entry.classes[name].forEach((text) => cell(row, text));
    return row;
  }));
  by("classes").replaceChildren(...(names.length ? [head, ...body] : []));
}

function interval(half) {
  return { type: "data", array: [half ?? 0], visible: half !== null, thickness: 1, width: 0 };
}

function interval_of_misses([mean, half], place) {
  const above = place(Math.min(1, mean + (half ?? 0))) - place(mean);
  const below = place(mean) - place(Math.max(0, mean - (half ?? 0)));
  return { ...interval(half), symmetric: false, array: [above], arrayminus: [below] };
}

function draw_tradeoff() {
  const point = Number(by("point").value || 0);
  const rows = shown.table.filter((row) => row.point === point && row.mean_serving_accuracy[0] !== null);
  const unmet = shown.table.filter((row) => row.point === point && row.mean_serving_accuracy[0] === null);
  const { place, axis } = miss_axis(rows.map((row) => row.slo_attainment[0]));
  const traces = rows.map((row) => {
    const look = shown.policies[row.policy];
    return {
      x: [row.mean_serving_accuracy[0]], y: [place(row.slo_attainment[0])], name: look.name, mode: "markers",
      error_x: interval(row.mean_serving_accuracy[1]), error_y: interval_of_misses(row.slo_attainment, place),
      marker: { color: look.colour, symbol: look.symbol, size: 12, line: { width: 2, color: look.colour } },
      hovertemplate: `<b>${look.name}</b><br>SLO attainment ${row.shown.slo_attainment}` +
        `<br>accuracy ${row.shown.mean_serving_accuracy} %<extra></extra>`,
    };
  });
  const sentences = shown.table.filter((row) => row.point === point && row.sentence).map((row) => row.sentence);
  by("lines").replaceChildren(...[...shown.points[point].lines, ...sentences].map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  draw_classes(point);
  const note = unmet.length ? `no query met: ${unmet.map((row) => shown.policies[row.policy].name).join(", ")}` : "";
  Plotly.react("tradeoff", traces, themed({
    margin: { l: 80, r: 20, t: 30, b: 50 }, hovermode: "closest", showlegend: true,
    legend: innerWidth < 700 ? { orientation: "h", y: -0.25 } : {},
    title: { text: note, font: { size: 12 }, x: 0 },
    xaxis: { title: { text: "mean serving accuracy (%)" } },
    yaxis: { title: { text: "SLO attainment" }, ...axis },
  }), LOOK);
}

function draw_run(number) {
  run = shown.runs[number];
  by("run").value = number;
  by("manifest").textContent = JSON.stringify(run.manifest, null, 2);
  mark();
  by("time").disabled = !run.windows;
  if (!run.windows) {
    Plotly.purge("dynamics");
    by("dynamics").textContent = "Of this run only its figures were kept (keep: windows keeps what is shown here).";
    by("now").textContent = "";
    return;
  }
  if (!by("dynamics").classList.contains("js-plotly-plot")) by("dynamics").textContent = "";
  const beside = shown.runs.filter((one) => one.windows && one !== run && one.point === run.point && one.seed === run.seed);
  const { place, axis } = miss_axis([run, ...beside].flatMap((one) => one.windows.slo_attainment));
  // The run itself last, so that it lies above the others.
  const traces = [...beside, run].flatMap((one) => curves(one, place, one === run));
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
  Plotly.react("dynamics", traces, themed(layout), LOOK);
  by("time").max = run.windows.start_s.length - 1;
  by("time").value = 0;
  tell(0);
}

// A step ends where the next one begins: so one more than there are windows.
const steps = (one) => [...one.windows.start_s, one.windows.end_s.at(-1)];

function curves(one, place, chosen) {
  const { colour, name } = shown.policies[one.policy];
  return PANELS.flatMap(([column, , format], panel) => {
    if (column === "ingest_per_s" && !chosen) return []; // the load is the same for all
    const values = one.windows[column], drawn = column === "slo_attainment" ? values.map(place) : values;
    return {
      x: steps(one), y: [...drawn, drawn.at(-1)], customdata: [...values, values.at(-1)],
      name, legendgroup: one.policy, showlegend: panel === 1, xaxis: "x", yaxis: panel ? `y${panel + 1}` : "y", mode: "lines",
      line: { shape: "hv", width: chosen ? 2.2 : 1.2, color: panel ? colour : "#6e6e6e" }, opacity: chosen ? 1 : 0.8,
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

function draw(number) {
  shown = experiments[number];
  options(by("point"), shown.points.map((_, number) => at(number)));
  options(by("run"), shown.runs.map((one) =>
    [one.policy, at(one.point), `seed ${one.seed}`].filter(Boolean).join(", ")));
  by("run").classList.remove("hidden");
  by("summary").textContent = `Summary of ${shown.name}`;
  by("spec").textContent = shown.spec;
  by("filter").value = "";
  [run, sorted] = [null, { column: null, falls: false }];
  table();
  draw_tradeoff();
  draw_run(0);
}

by("experiment").onchange = (event) => draw(Number(event.target.value));
by("point").onchange = draw_tradeoff;
by("run").onchange = (event) => draw_run(Number(event.target.value));
by("time").oninput = (event) => {
  const place = Number(event.target.value);
  tell(place);
  Plotly.relayout("dynamics", { shapes: [line(run.windows.start_s[place])] });
};
by("filter").oninput = table;
DARK.onchange = () => draw(experiments.indexOf(shown));
options(by("experiment"), experiments.map((one) => one.name));
draw(0);
document.body.dataset.ready = "yes";
