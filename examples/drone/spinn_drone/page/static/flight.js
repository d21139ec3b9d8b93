// Draws a flight: the forest from above, the camera's picture, and the age of the answer acted on.
"use strict";

const PICTURE = 1; // first byte of a picture; then its number (u32), when it was captured (f64), and a JPEG
const HEAD = 13;
const KEPT = 300; // ages in the chart: a quarter of a minute
const OLDEST = 500; // ms, top of the chart; then the drone stops
const METRES = 11; // half the width of the map
const TRACK = "#8b5cf6", TREE = "#16a37a", CRASH = "#d64545", SOFT = "#98a1b2";

const part = (name) => root.querySelector(`[data-part=${name}]`);
const pen = (name) => root.querySelector(`canvas.${name}`).getContext("2d");

let root, map, camera, chart; // once the page is put together
let scene = null, track = [], ages = [], ending = "";
let pictures = 0, messages = 0;

async function changeScene(seed) {
  if (scene?.seed === seed) return;
  scene = { seed, trees: [], length: 50 };
  track = [];
  ages = [];
  ending = "";
  const said = await (await fetch("/drone/scene")).json();
  if (said.seed === seed) scene = said;
}

function drawMap() {
  const { width, height } = map.canvas;
  map.clearRect(0, 0, width, height);
  if (!scene) return;
  const scale = width / (scene.length + 4), middle = track.length ? track[track.length - 1].y : 0;
  const at = (x, y) => [(x + 2) * scale, height / 2 - ((y - middle) * height) / 2 / METRES];
  map.fillStyle = TREE;
  for (const [x, y, r] of scene.trees) {
    map.beginPath();
    map.ellipse(...at(x, y), r * scale, (r * height) / 2 / METRES, 0, 0, 2 * Math.PI);
    map.fill();
  }
  map.strokeStyle = TRACK;
  map.lineWidth = 3;
  map.beginPath();
  for (const p of track) map.lineTo(...at(p.x, p.y));
  map.stroke();
  if (track.length) {
    const last = track[track.length - 1];
    map.fillStyle = ending === "crashed" ? CRASH : "#fff";
    map.beginPath();
    map.arc(...at(last.x, last.y), ending === "crashed" ? 10 : 6, 0, 2 * Math.PI);
    map.fill();
  }
}

function drawAges() {
  const { width, height } = chart.canvas;
  chart.clearRect(0, 0, width, height);
  chart.fillStyle = SOFT;
  chart.fillText(`${OLDEST} ms: it stops`, 6, 12);
  ages.forEach((age, k) => {
    const high = (Math.min(age ?? OLDEST, OLDEST) / OLDEST) * height;
    chart.fillStyle = age === null || age >= OLDEST ? CRASH : TRACK;
    chart.fillRect((k * width) / KEPT, height - high, width / KEPT, high);
  });
}

function line(text) {
  const item = document.createElement("li");
  item.textContent = text;
  const lines = root.querySelector(".lines");
  lines.prepend(item);
  while (lines.children.length > 6) lines.lastChild.remove();
}

const said = {
  line: (m) => line(m.text),
  end: (m) => {
    ending = m.ending;
    line(`${m.ending} after ${m.seconds.toFixed(1)} s and ${Math.round(m.metres)} m`);
    drawMap();
  },
  at: (m) => {
    changeScene(m.seed);
    track.push(m);
    ages.push(m.age);
    if (ages.length > KEPT) ages.shift();
    part("age").textContent = m.age === null ? "no answer yet" : `${m.age} ms old`;
    part("speed").textContent = `${m.speed.toFixed(1)} m/s`;
    drawMap();
    drawAges();
  },
};

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/drone/live/${root.dataset.page}`);
  socket.binaryType = "arraybuffer";
  pictures = messages = 0;
  socket.onmessage = async ({ data }) => {
    messages += 1;
    if (typeof data === "string") {
      const m = JSON.parse(data);
      said[m.kind]?.(m);
    } else if (new DataView(data).getUint8(0) === PICTURE) {
      pictures += 1;
      const image = await createImageBitmap(new Blob([new Uint8Array(data, HEAD)], { type: "image/jpeg" }));
      camera.imageSmoothingEnabled = false;
      camera.drawImage(image, 0, 0, camera.canvas.width, camera.canvas.height);
    }
    const seen = new DataView(new ArrayBuffer(8));
    seen.setUint32(0, pictures, true);
    seen.setUint32(4, messages, true);
    if (socket.readyState === WebSocket.OPEN) socket.send(seen.buffer);
  };
  socket.onclose = () => setTimeout(connect, 1000);
}

function begin() {
  root = document.querySelector("main[data-page]");
  if (!root) return requestAnimationFrame(begin); // the page is still put together
  map = pen("map");
  camera = pen("camera");
  chart = pen("ages");
  connect();
}

begin();
