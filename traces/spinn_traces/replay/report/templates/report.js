"use strict";
// Light or dark: as the system says, until the button or #light or #dark in the address says otherwise.
const asked = window.matchMedia("(prefers-color-scheme: dark)");
let chosen = { "#light": false, "#dark": true }[location.hash];

function dress() {
  document.documentElement.classList.toggle("dark", chosen ?? asked.matches);
}

// `var:NAME` in a plot is a colour of the style sheet.
function coloured(value, style) {
  if (typeof value === "string") return value.startsWith("var:") ? style.getPropertyValue("--" + value.slice(4)).trim() : value;
  if (Array.isArray(value)) return value.map((one) => coloured(one, style));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, style)]));
  return value;
}

function draw() {
  if (!window.Plotly) return;
  const style = getComputedStyle(document.documentElement);
  const figures = JSON.parse(document.getElementById("figures").textContent);
  for (const [id, figure] of Object.entries(figures)) {
    const { data, layout } = coloured(figure, style);
    Plotly.react(id, data, layout, { responsive: true, displayModeBar: false });
  }
}

// plotly.js is in this page as base64 of gzip.
async function unpack() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function redraw() {
  dress();
  draw();
}

document.getElementById("theme").addEventListener("click", () => {
  chosen = !(chosen ?? asked.matches);
  redraw();
});
asked.addEventListener("change", redraw);
dress();
unpack().then(draw).catch((error) => {
  for (const place of document.querySelectorAll(".plot")) place.textContent = "This browser cannot unpack the plots: " + error;
});
