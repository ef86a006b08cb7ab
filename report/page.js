"use strict";
// The page is whole without this script. It draws the charts, filters the samples, and shows the end of a log.
(() => {
  const data = JSON.parse(document.getElementById("series").textContent);
  const kinds = {
    loss: { label: "Loss", colour: "--base", digits: 4 },
    eval_loss: { label: "Evaluation loss", colour: "--tuned", digits: 4, points: true },
    learning_rate: { label: "Learning rate", colour: "--rate", exponent: true },
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let charts = [];

  // The values of all series at the steps of any of them. A series has null at the steps of the others.
  const joined = (names) => {
    const steps = [...new Set(names.flatMap((name) => data[name][0]))].sort((a, b) => a - b);
    const values = names.map((name) => {
      const known = new Map(data[name][0].map((step, at) => [step, data[name][1][at]]));
      return steps.map((step) => known.get(step) ?? null);
    });
    return [steps, ...values];
  };

  const written = (kind, value) =>
    value == null ? "–" : kind.exponent ? value.toExponential(2) : value.toFixed(kind.digits);

  const draw = () => {
    charts.forEach((chart) => chart.destroy());
    charts = [...document.querySelectorAll(".chart")].map((place) => {
      const names = place.dataset.series.split(" ");
      const axis = { stroke: colour("--soft"), font: "12px system-ui, sans-serif", grid: { stroke: colour("--grid"), width: 1 },
        ticks: { stroke: colour("--grid"), width: 1 } };
      const rate = names.includes("learning_rate");
      return new uPlot(
        {
          width: place.clientWidth, height: 250, scales: { x: { time: false } },
          cursor: { points: { size: 7 }, y: false },
          axes: [
            { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000] },
            { ...axis, size: rate ? 68 : 52, values: (_, ticks) =>
              ticks.map((tick) => (rate && tick ? tick.toExponential(1) : String(+tick.toFixed(3)))) },
          ],
          series: [
            { label: "Step", value: (_, step) => (step == null ? "–" : step.toLocaleString("en")) },
            ...names.map((name) => ({
              label: kinds[name].label, stroke: colour(kinds[name].colour), width: 2, spanGaps: true,
              points: { show: kinds[name].points || data[name][0].length < 3, size: 7, fill: colour(kinds[name].colour) },
              value: (_, value) => written(kinds[name], value),
            })),
          ],
        },
        joined(names),
        place,
      );
    });
  };

  draw();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; draw(); }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  matchMedia("print").addEventListener("change", draw);

  document.querySelectorAll("pre.log").forEach((log) => { log.scrollTop = log.scrollHeight; });

  const controls = document.querySelector(".controls");
  if (controls) {
    controls.hidden = false;
    const find = document.getElementById("find"), kind = document.getElementById("kind");
    const rows = [...document.querySelectorAll("#rows .sample")];
    const texts = rows.map((row) => row.textContent.normalize("NFC").toLowerCase());
    const filter = () => {
      const words = find.value.normalize("NFC").toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, at) => {
        const fits = !kind.value || (row.dataset.kinds ?? "").split(" ").includes(kind.value);
        row.hidden = !(fits && words.every((word) => texts[at].includes(word)));
        shown += !row.hidden;
      });
      document.getElementById("count").textContent = `${shown} of ${rows.length}`;
    };
    find.addEventListener("input", filter);
    kind.addEventListener("change", filter);
  }
})();
