// Draws the charts in the colours of the light or the dark scheme, and again when the scheme changes.
"use strict";

const places = [...document.querySelectorAll(".plot")];
const figures = places.map((place) => JSON.parse(place.nextElementSibling.textContent));

function palette() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const scale = (...names) => names.map((name, place) => [place / (names.length - 1), color(name)]);
  return {
    "@ink": color("ink"),
    "@muted": color("muted"),
    "@line": color("line"),
    "@surface": color("surface"),
    "@accent": color("accent"),
    "@series": [1, 2, 3, 4, 5, 6].map((place) => color(`series-${place}`)),
    "@amount": scale("scale-none", "scale-some", "scale-much"),
    "@signed": scale("scale-less", "scale-none", "scale-some"),
    "@amount-pale": scale("scale-none", "pale-much"),
    "@signed-pale": scale("pale-less", "scale-none", "pale-much"),
  };
}

// A copy of `value` in which the names of colours are colours. Only keys that hold colours are looked at.
function painted(value, colors, key = "") {
  if (typeof value === "string") return /color/.test(key) && value in colors ? colors[value] : value;
  if (Array.isArray(value)) return value.map((item) => (typeof item === "object" ? painted(item, colors) : item));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, painted(item, colors, name)]));
}

async function drawOne(place, figure, colors, width) {
  const config = { displayModeBar: false, responsive: true, showTips: false };
  try {
    const { data, layout } = painted(figure, colors);
    await Plotly.react(place, data, { ...layout, width, autosize: !width }, config);
    return true;
  } catch (error) {
    console.error(error);
    place.textContent = "This chart could not be drawn.";
    return false;
  }
}

// All charts start at once: a page that is being printed does not wait.
async function draw(printing = false) {
  const colors = palette();
  const drawn = await Promise.all(
    places.map((place, position) => drawOne(place, figures[position], colors, printing ? place.clientWidth : undefined)),
  );
  document.body.dataset.plots = `${drawn.filter(Boolean).length}/${places.length}`;
}

// Paper is light and narrow, whatever the screen is.
function print(printing) {
  document.documentElement.toggleAttribute("data-print", printing);
  draw(printing);
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
