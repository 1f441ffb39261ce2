// Draws every figure of the page with plotly; colours that begin with "--" are those of the style sheet.
"use strict";

// A finger that is drawn over a tall picture scrolls the page.
const hasMouse = window.matchMedia("(hover: hover) and (pointer: fine)").matches;

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
    const shown = { ...layout, height: Number(plot.dataset.height), dragmode: hasMouse ? layout.dragmode : false, uirevision: 1 };
    Plotly.react(plot, data, shown, { displayModeBar: false, responsive: true });
  }
  done();
}

/** Let the address follow the part of a picture that is zoomed to: whoever gets it sees that part.
 *
 * Its times are those of the page, to the second. The end of the whole picture stays as it was asked for, like "now".
 */
function follow(plot) {
  const whole = new URL(window.location);
  const [first] = plot.layout.xaxis.range;
  const written = (time) => time.slice(0, 19).replace(" ", "T");
  plot.on("plotly_relayout", () => {
    const [begin, end] = plot.layout.xaxis.range;
    const address = new URL(whole);
    if (begin > first && written(begin) !== written(end)) {
      address.searchParams.delete("page");
      address.searchParams.set("since", written(begin));
      if (end < plot.dataset.until) {
        address.searchParams.set("until", written(end));
      }
    }
    window.history.replaceState(null, "", address);
  });
}

scheme.addEventListener("change", draw);
draw();
document.querySelectorAll(".plot").forEach(follow);
