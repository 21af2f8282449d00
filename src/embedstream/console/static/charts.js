"use strict";

const EVERY = 2000;
const section = document.querySelector("[data-history]");

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function chart(id, label) {
  const element = document.getElementById(id);
  const axis = { stroke: () => color("--ink"), grid: { stroke: () => color("--grid"), width: 1 }, ticks: { show: false }, size: 48 };
  const options = {
    width: element.clientWidth, height: 180, legend: { show: false }, cursor: { show: false },
    scales: { y: { range: (_, least, most) => [0, Math.max(1, most * 1.1)] } },
    axes: [{ ...axis, size: 30 }, axis],
    series: [{}, { label, stroke: () => color("--line"), width: 2, spanGaps: false }],
  };
  const plot = new uPlot(options, [[], []], element);
  new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 180 })).observe(element);
  return (times, values) => {
    plot.setData([times, values]);
    const last = values.filter((value) => value !== null).at(-1);
    const said = last === undefined ? "not known" : last.toLocaleString();
    element.setAttribute("aria-label", `${label} over the last 15 minutes, at last ${said}`);
  };
}

function start() {
  const rate = chart("chart-rate", "Rows a second");
  const lag = chart("chart-lag", "Unread messages");
  async function look() {
    if (document.hidden) return;
    try {
      const answer = await fetch(section.dataset.history, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const [times, rates, lags] = await answer.json();
      rate(times, rates);
      lag(times, lags);
    } catch {
      // The page's own part says that nothing answers.
    }
  }
  look();
  setInterval(look, EVERY);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", look);
}

// Behind the first paint, which needs no charts.
document.addEventListener("DOMContentLoaded", () => requestAnimationFrame(() => setTimeout(start)));
