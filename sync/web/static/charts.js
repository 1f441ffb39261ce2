// Draws every figure of the page with plotly; colours that begin with "--" are those of the style sheet.
"use strict";

// A finger that is drawn over a tall picture scrolls the page.
const hasMouse = window.matchMedia("(hover: hover) and (pointer: fine)").matches;

const TICK_PX = 80; // what a date takes beside the axis, with some space

const scheme = window.matchMedia("(prefers-color-scheme: dark)");

/** Return a copy of a part of a figure with the style sheet's names of colours replaced by what they are now.
 *
 * Only where plotly takes a colour: a text of the API may begin with "--" too.
 */
function coloured(part, styles, name = "") {
  if (typeof part === "string") {
    return name.endsWith("color") && part.startsWith("--") ? styles.getPropertyValue(part).trim() : part;
  }
  if (Array.isArray(part)) {
    return part.map((entry) => coloured(entry, styles, name));
  }
  if (part && typeof part === "object") {
    return Object.fromEntries(Object.entries(part).map(([key, entry]) => [key, coloured(entry, styles, key)]));
  }
  return part;
}

/** Return the computed values of the style sheet's colours: light-dark() has to be resolved by an element. */
function palette() {
  const probe = document.createElement("span");
  document.body.append(probe);
  const styles = {
    getPropertyValue(name) {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    },
  };
  return { styles, done: () => probe.remove() };
}

function draw() {
  const { styles, done } = palette();
  for (const chart of document.querySelectorAll("figure.chart")) {
    const figure = JSON.parse(chart.querySelector("script.figure").textContent);
    const plot = chart.querySelector(".plot");
    const { data, layout } = coloured(figure, styles);
    const room = Math.floor(plot.clientWidth / TICK_PX);
    const shown = {
      ...layout,
      height: Number(plot.dataset.height),
      dragmode: hasMouse ? layout.dragmode : false,
      uirevision: 1,
      xaxis: { ...layout.xaxis, nticks: Math.min(layout.xaxis.nticks, room), tickangle: 0 },
    };
    Plotly.react(plot, data, shown, { displayModeBar: false, responsive: true });
  }
  done();
}

/** Return a time of the picture, which is local, as addresses have it: to the second, with its offset from UTC. */
function written(time, offsets) {
  const local = time.length === 10 ? `${time} 00:00` : time.slice(0, 19);
  const [, offset] = offsets.findLast(([begin]) => begin <= local);
  return local.replace(" ", "T") + offset;
}

/** Show a link to a page of the part of a picture that is zoomed to; edges that are not moved stay as they were asked for. */
function follow(chart) {
  const plot = chart.querySelector(".plot");
  const zoomed = chart.querySelector(".zoomed");
  const offsets = JSON.parse(plot.dataset.offsets);
  const [first, last] = plot.layout.xaxis.range;
  plot.on("plotly_relayout", () => {
    const [begin, end] = plot.layout.xaxis.range;
    const address = new URL(window.location);
    address.searchParams.delete("page");
    if (begin > first) {
      address.searchParams.set("since", written(begin, offsets));
    }
    if (end < last && end < plot.dataset.until) {
      address.searchParams.set("until", written(end, offsets));
    }
    const isPart = (begin > first || end < last) && begin < plot.dataset.until;
    zoomed.hidden = !isPart || written(begin, offsets) === written(end, offsets);
    zoomed.querySelector("a").href = address;
  });
}

scheme.addEventListener("change", draw);
draw();
document.querySelectorAll("figure.chart").forEach(follow);
