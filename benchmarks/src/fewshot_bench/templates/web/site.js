"use strict";
// Draws the marks of the page with Plotly and filters them together with the table.
const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters");
const rows = [...document.querySelectorAll("#rows tbody tr")];
const AXES = { memory: "peak memory of a training step, MB", step: "time of a training step, ms" };
// Plotly reads some markup in text; names come from files.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const number = (value) => (value === null ? "not measured" : Number(value.toPrecision(4)).toString());
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function chosen() {
  const wanted = Object.fromEntries(new FormData(form));
  const part = (wanted.label ?? "").toLowerCase();
  return (item) =>
    ["backbone", "dataset", "group"].every((key) => !wanted[key] || item[key] === wanted[key]) &&
    item.label.toLowerCase().includes(part);
}

function describe(mark) {
  const spread = mark.half === null ? "" : ` ± ${number(mark.half)}`;
  return [
    `${mark.label} (${data.groups[mark.group]})`,
    `error ${number(mark.error)}${spread} % at ${mark.shots} shots, ${mark.runs} runs`,
    `memory ${number(mark.memory)} MB, step ${number(mark.step)} ms`,
  ];
}

// What no other mark beats in both; the control is no candidate.
function front(marks, axis) {
  let best = Infinity;
  return marks
    .filter((mark) => mark.group !== "control")
    .sort((a, b) => a[axis] - b[axis] || a.error - b.error)
    .filter((mark) => mark.error < best && ((best = mark.error), true));
}

function traces(marks, axis) {
  const edge = front(marks, axis);
  const line = {
    x: edge.map((mark) => mark[axis]), y: edge.map((mark) => mark.error), mode: "lines",
    line: { shape: "hv", color: colour("--faint"), width: 1 }, hoverinfo: "skip", showlegend: false,
  };
  const points = marks.map((mark) => ({
    x: [mark[axis]], y: [mark.error], mode: "markers", name: plain(mark.label),
    error_y: { type: "data", array: [mark.half ?? 0], thickness: 1, width: 3 },
    marker: { color: mark.colour, symbol: mark.symbol, size: 10 },
    text: [describe(mark).map(plain).join("<br>")], hovertemplate: "%{text}<extra></extra>",
  }));
  return [line, ...points];
}

function layout(axis) {
  const grid = { gridcolor: colour("--rule"), zeroline: false, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { t: 10, r: 10 },
    font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 },
    xaxis: { ...grid, title: { text: AXES[axis] } }, yaxis: { ...grid, title: { text: "error, %" } },
    legend: { orientation: "h", y: -0.25 }, hovermode: "closest",
  };
}

// One stop of the Tab key per plot; arrow keys go from mark to mark and show its values.
function reach(plot, marks) {
  const points = [...plot.querySelectorAll("path.point")];
  const go = (index) => {
    points.forEach((point, at) => point.setAttribute("tabindex", at === index ? "0" : "-1"));
  };
  points.forEach((point, index) => {
    point.setAttribute("role", "img");
    point.setAttribute("aria-label", describe(marks[index]).join("; "));
    point.addEventListener("focus", () => {
      Plotly.Fx.hover(plot, [{ curveNumber: index + 1, pointNumber: 0 }]);
    });
    point.addEventListener("blur", () => Plotly.Fx.unhover(plot));
    point.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = (index + step + points.length) % points.length;
      go(next);
      points[next].focus();
    });
  });
  go(0);
}

function draw(panel, axis, marks) {
  const figure = document.createElement("figure");
  const title = document.createElement("figcaption");
  const plot = document.createElement("div");
  title.textContent = `${panel.title}, ${panel.shots} shots: error against ${axis === "step" ? "step time" : axis}`;
  plot.className = "plot";
  plot.dataset.axis = axis;
  figure.append(title, plot);
  document.getElementById("plots").append(figure);
  const settings = { displayModeBar: false, responsive: true };
  Plotly.newPlot(plot, traces(marks, axis), layout(axis), settings).then(() => {
    reach(plot, marks);
    plot.on("plotly_afterplot", () => reach(plot, marks));
  });
}

function show() {
  const fits = chosen();
  rows.forEach((row) => (row.hidden = !fits(row.dataset)));
  const left = rows.filter((row) => !row.hidden).length;
  document.getElementById("count").textContent = `${left} of ${rows.length} rows`;
  document.querySelectorAll(".plot").forEach((plot) => Plotly.purge(plot));
  document.getElementById("plots").replaceChildren();
  for (const panel of data.panels) {
    const here = panel.marks.filter((mark) => fits({ ...panel, ...mark }));
    for (const axis of Object.keys(AXES)) {
      const marks = here.filter((mark) => mark.error !== null && mark[axis] !== null);
      if (marks.length) draw(panel, axis, marks);
    }
  }
}

form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
show();
