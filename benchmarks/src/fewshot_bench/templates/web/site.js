"use strict";
// Draws the marks of the page with Plotly and filters them together with the table.
const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters");
const rows = [...document.querySelectorAll("#rows tbody tr")];
const AXES = { memory: "peak memory of a training step, MB", step: "time of a training step, ms" };
const SHAPES = {
  circle: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z", "circle-dot": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z",
  square: "M-4.5-4.5h9v9h-9Z", diamond: "M0-6L6 0L0 6L-6 0Z", hexagon: "M-3-5h6l3 5l-3 5h-6l-3-5Z",
  "triangle-up": "M0-5L5 4H-5Z", "triangle-down": "M0 5L5-4H-5Z", "triangle-left": "M-5 0L4-5V5Z",
  "triangle-right": "M5 0L-4-5V5Z", cross: "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z",
  x: "M-6-3L-3-6L0-3L3-6L6-3L3 0L6 3L3 6L0 3L-3 6L-6 3L-3 0Z", pentagon: "M0-6L6-1.5L3.5 5H-3.5L-6-1.5Z",
  star: "M0-6L1.6-2H6L2.5 1L3.8 5.5L0 3L-3.8 5.5L-2.5 1L-6-2H-1.6Z", "diamond-tall": "M0-6L3.5 0L0 6L-3.5 0Z",
};
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
    line: { shape: "hv", color: colour("--faint"), width: 1 }, hoverinfo: "skip",
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
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { t: 10, r: 10, b: 40, l: 40 },
    font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 },
    xaxis: { ...grid, title: { text: AXES[axis] } }, yaxis: { ...grid, title: { text: "error, %" } },
    showlegend: false, hovermode: "closest",
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

function frame(panel, axis) {
  const figure = document.createElement("figure");
  const title = document.createElement("figcaption");
  const plot = document.createElement("div");
  const against = axis === "step" ? "step time" : axis;
  title.textContent = `${panel.title}, ${panel.shots} shots: error against ${against}`;
  plot.className = "plot";
  plot.dataset.axis = axis;
  figure.append(title, plot);
  return { figure, plot };
}

function draw({ plot, marks, axis }) {
  const settings = { displayModeBar: false, responsive: true };
  Plotly.newPlot(plot, traces(marks, axis), layout(axis), settings).then(() => {
    reach(plot, marks);
    plot.dataset.ready = "true";
  });
}

// One legend for all plots: a row has the same colour and shape in each of them.
function legend(marks) {
  const items = [...new Map(marks.map((mark) => [mark.label, mark])).values()].map((mark) => {
    const item = document.createElement("li");
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", SHAPES[mark.symbol.replace("-open", "")]);
    path.setAttribute("stroke", mark.colour);
    path.setAttribute("fill", mark.symbol.endsWith("-open") ? "none" : mark.colour);
    swatch.setAttribute("viewBox", "-7 -7 14 14");
    swatch.setAttribute("aria-hidden", "true");
    swatch.append(path);
    item.append(swatch, mark.label);
    return item;
  });
  document.getElementById("legend").replaceChildren(...items);
}

function show() {
  const fits = chosen();
  rows.forEach((row) => (row.hidden = !fits(row.dataset)));
  const left = rows.filter((row) => !row.hidden).length;
  document.getElementById("count").textContent = `${left} of ${rows.length} rows`;
  document.querySelectorAll(".plot").forEach((plot) => Plotly.purge(plot));
  const asked = new FormData(form);
  // The control lies so far away that beside it the methods could not be told apart.
  const drawn = (mark) => mark.group !== "control" || asked.has("control") || asked.get("group") === "control";
  const plots = data.panels.flatMap((panel) => {
    const here = panel.marks.filter((mark) => drawn(mark) && fits({ ...panel, ...mark }));
    return Object.keys(AXES)
      .map((axis) => ({ panel, axis, marks: here.filter((m) => m.error !== null && m[axis] !== null) }))
      .filter(({ marks }) => marks.length)
      .map((plot) => ({ ...plot, ...frame(plot.panel, plot.axis) }));
  });
  legend(plots.flatMap((plot) => plot.marks));
  // All frames first: the number of them decides how wide each is.
  document.getElementById("plots").replaceChildren(...plots.map((plot) => plot.figure));
  plots.forEach(draw);
}

form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
show();
