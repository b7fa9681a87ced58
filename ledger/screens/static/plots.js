// Time series, drawn from the tables that stand beside them: the first column is time, columns with a colour are drawn.
"use strict";

const plots = new Map();


// `light-dark()` is resolved by what it colours, so a probe is painted with it.
function resolved(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function written(value, unit) {
  if (value == null) return "–";
  if (unit === "%") return `${value.toFixed(1)} %`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 90000) return `${(value / 1000).toFixed(1)} s`;
  if (value < 5400000) return `${(value / 60000).toFixed(1)} min`;
  return `${(value / 3600000).toFixed(1)} h`;
}

// Durations are drawn from nothing on. A rate is drawn from where it matters: what it lacks of 100 % is the news.
function between(least, most, ceiling) {
  if (least == null) return [0, Number(ceiling ?? 1)];
  if (ceiling === undefined) return [0, most * 1.1 || 1];
  return [Math.max(0, Math.floor((least - 3) / 5) * 5), Number(ceiling)];
}

function read(table) {
  const drawn = [...table.tHead.rows[0].cells].map((cell, place) => [place, cell]).filter(([, cell]) => cell.dataset.colour);
  const rows = [...table.tBodies[0].rows];
  const value = (cell) => (cell.dataset.y === undefined ? null : Number(cell.dataset.y));
  return {
    series: drawn.map(([, cell]) => ({ label: cell.textContent, colour: cell.dataset.colour })),
    data: [rows.map((row) => Number(row.dataset.x)), ...drawn.map(([place]) => rows.map((row) => value(row.cells[place])))],
  };
}

function draw(part) {
  const { series, data } = read(document.getElementById(part.dataset.plot));
  const { unit, zone, bucket, most: ceiling } = part.dataset;
  const words = new Intl.DateTimeFormat("en-GB", bucket === "day"
    ? { day: "numeric", month: "short", timeZone: zone }
    : { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: zone });
  const when = (at) => (at == null ? "–" : words.format(new Date(at * 1e3)));
  const axis = { stroke: resolved("muted"), grid: { stroke: resolved("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  plots.get(part)?.destroy();
  part.replaceChildren();
  plots.set(part, new uPlot({
    width: part.clientWidth,
    height: 220,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), zone),
    cursor: { drag: { x: false, y: false } },
    scales: { y: { range: (_, least, most) => between(least, most, ceiling) } },
    axes: [{ ...axis, space: 90, values: (_, times) => times.map(when) }, { ...axis, size: 64, values: (_, values) => values.map((each) => written(each, unit)) }],
    series: [
      { label: bucket === "day" ? "Day" : "Hour", value: (_, at) => when(at) },
      ...series.map(({ label, colour: name }) => ({
        label, stroke: resolved(name), width: 2, spanGaps: false, points: { show: data[0].length < 60, size: 5 },
        value: (_, each) => written(each, unit),
      })),
    ],
  }, data, part));
}

function drawAll() {
  for (const part of document.querySelectorAll("[data-plot]")) draw(part);
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-theme-toggle]")) requestAnimationFrame(drawAll);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
new ResizeObserver(() => {
  for (const [part, plot] of plots) if (plot.width !== part.clientWidth) plot.setSize({ width: part.clientWidth, height: 220 });
}).observe(document.body);
drawAll();
