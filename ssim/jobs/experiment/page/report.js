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
const FONT = { family: "system-ui, sans-serif", size: 13, color: "#1b1b1b" };
let shown, run;

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
  ["policy", ...shown.swept, ...COLUMNS.map(([, name]) => name), "seeds"].forEach((name, number) =>
    cell(head, name, "th", number <= shown.swept.length));
  const rows = shown.table.map((entry) => {
    const row = document.createElement("tr");
    row.tabIndex = 0;
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

function draw_tradeoff() {
  const point = Number(by("point").value || 0);
  const rows = shown.table.filter((row) => row.point === point && row.mean_serving_accuracy[0] !== null);
  const unmet = shown.table.filter((row) => row.point === point && row.mean_serving_accuracy[0] === null);
  const traces = rows.map((row) => {
    const look = shown.policies[row.policy];
    return {
      x: [row.mean_serving_accuracy[0]], y: [row.slo_attainment[0]], name: look.name, mode: "markers",
      error_x: interval(row.mean_serving_accuracy[1]), error_y: interval(row.slo_attainment[1]),
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
  Plotly.react("tradeoff", traces, {
    font: FONT, margin: { l: 60, r: 20, t: 30, b: 50 }, hovermode: "closest", showlegend: true,
    title: { text: note, font: { size: 12 }, x: 0 },
    xaxis: { title: { text: "mean serving accuracy (%)" } },
    yaxis: { title: { text: "SLO attainment" }, range: [-0.03, 1.03] },
  }, LOOK);
}

function draw_run(number) {
  run = shown.runs[number];
  by("run").value = number;
  by("manifest").textContent = JSON.stringify(run.manifest, null, 2);
  [...by("table").tBodies[0].rows].forEach((row, place) =>
    row.classList.toggle("chosen", shown.table[place].policy === run.policy && shown.table[place].point === run.point));
  by("time").disabled = !run.windows;
  if (!run.windows) {
    Plotly.purge("dynamics");
    by("dynamics").textContent = "Of this run only its figures were kept (keep: windows keeps what is shown here).";
    by("now").textContent = "";
    return;
  }
  if (!by("dynamics").classList.contains("js-plotly-plot")) by("dynamics").textContent = "";
  const colour = shown.policies[run.policy].colour;
  const times = [...run.windows.start_s, run.windows.end_s.at(-1)]; // a step ends where the next one begins: so one more
  const traces = PANELS.map(([column, name, format], place) => ({
    x: times, y: [...run.windows[column], run.windows[column].at(-1)], name, xaxis: "x", yaxis: place ? `y${place + 1}` : "y", mode: "lines",
    line: { shape: "hv", width: 1.5, color: place ? colour : "#6e6e6e" }, hovertemplate: `%{y:${format}}`,
  }));
  const layout = {
    font: FONT, margin: { l: 70, r: 20, t: 30, b: 40 }, showlegend: false, hovermode: "x unified",
    xaxis: { title: { text: "time (s)" }, anchor: `y${PANELS.length}`, range: [times[0], times.at(-1)] },
    shapes: [line(times[0])],
  };
  PANELS.forEach(([column, name], place) => {
    const high = 1 - place / PANELS.length;
    layout[place ? `yaxis${place + 1}` : "yaxis"] = {
      domain: [high - 1 / PANELS.length + 0.025, high], title: { text: name.replace(" (", "<br>("), font: { size: 11 } },
      rangemode: column === "serving_accuracy" ? "normal" : "tozero", nticks: 4,
    };
  });
  Plotly.react("dynamics", traces, layout, LOOK);
  by("time").max = run.windows.start_s.length - 1;
  by("time").value = 0;
  tell(0);
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
options(by("experiment"), experiments.map((one) => one.name));
draw(0);
document.body.dataset.ready = "yes";
