// One page's pictures, answers and camera. Python lays the page out; this draws what changes with every frame.
"use strict";

const PICTURE = 1; // first byte of a picture; then its number (u32), when it was captured (f64), and a JPEG
const HEAD = 13;
const MOST_SENDING = 2; // pictures of this browser's camera that are on their way
const WIDEST = 640;
const REASONS = {
  confident: "sure enough early",
  final_exit: "the whole network was run",
  shortened: "the server was busy: an earlier exit",
  deadline: "out of time: the device's best guess",
  disconnected: "no server: the device alone",
  rejected: "the server refused: the device alone",
  no_answer: "out of time: nothing known yet",
};

class Clock {
  // The program's clock (seconds) from the page's (milliseconds), by the quickest of the last questions.
  constructor() {
    this.tries = [];
  }
  learn(asked, now) {
    const heard = performance.now();
    this.tries.push({ took: heard - asked, offset: now - (asked + heard) / 2000 });
    if (this.tries.length > 20) this.tries.shift();
    this.offset = this.tries.reduce((a, b) => (a.took < b.took ? a : b)).offset;
  }
  at(ms) {
    return this.offset === undefined ? undefined : ms / 1000 + this.offset;
  }
}

class Figures {
  // What was shown in the last seconds; read by benchmarks and tests.
  constructor() {
    this.pictures = [];
    this.labels = [];
  }
  picture(delay) {
    this.keep(this.pictures, delay);
  }
  label(delay) {
    this.keep(this.labels, delay);
  }
  keep(list, delay) {
    list.push([performance.now(), delay]);
    if (list.length > 2000) list.splice(0, 1000);
  }
  of(seconds) {
    // Delays: from capture, by the program's clock, in ms.
    const since = performance.now() - seconds * 1000;
    const lately = (list) => list.filter(([at]) => at > since);
    const quantiles = (list) => {
      const delays = list.map(([, delay]) => delay).sort((a, b) => a - b);
      const at = (q) => delays[Math.min(delays.length - 1, Math.floor(q * delays.length))];
      return { p50: at(0.5), p95: at(0.95) };
    };
    const pictures = lately(this.pictures);
    const labels = lately(this.labels);
    return {
      fps: pictures.length / seconds,
      labels_per_s: labels.length / seconds,
      picture_ms: quantiles(pictures),
      label_ms: quantiles(labels),
    };
  }
}

class Overlay {
  // Label, confidence, age and origin of one stream's newest answer.
  constructor(root) {
    this.root = root;
    for (const name of ["label", "bar", "confidence", "age", "where", "why", "top"]) {
      this[name] = root.querySelector(`[data-part=${name}]`);
    }
  }
  show(answer) {
    const sure = answer.confidence ?? 0;
    const kind = answer.fallback ? "fallback" : answer.where;
    this.root.dataset.kind = kind ?? "fallback";
    this.root.dataset.unsure = sure < 0.5;
    if (answer.label !== null) set(this.label, answer.label); // without an answer, the last one stays, paler
    set(this.confidence, answer.confidence === null ? "" : `${Math.round(100 * sure)} %`);
    set(this.age, `${Math.round(answer.age)} ms old`);
    set(this.where, answer.where === null ? "no answer in time" : `from the ${answer.where}`);
    if (this.bar) this.bar.style.transform = `scaleX(${sure})`;
    const why = answer.exit === "repeat" ? "hardly changed: an earlier answer again" : REASONS[answer.reason] ?? "";
    if (this.why) set(this.why, `${why}${answer.exit ? ` · exit ${answer.exit}` : ""}`);
    if (this.top) {
      const others = answer.top.slice(1).filter(([, p]) => p >= 0.02);
      set(this.top, others.map(([label, p]) => `${label} ${Math.round(100 * p)} %`).join(" · "));
    }
  }
}

function set(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

class Viewer {
  constructor(stage) {
    this.stage = stage;
    this.canvas = stage.querySelector("canvas");
    this.context = this.canvas.getContext("bitmaprenderer");
    this.overlays = {};
    for (const root of document.querySelectorAll("[data-lane]")) this.overlays[root.dataset.lane] = new Overlay(root);
    this.clock = new Clock();
    this.figures = new Figures();
    this.pictures = this.messages = this.unsaid = 0;
    this.waiting = null; // the newest picture, while another is decoded
    this.drawing = false;
    this.answers = {};
    document.addEventListener("visibilitychange", () => this.say({ hidden: document.hidden }));
    setInterval(() => this.ask(), 2000);
    this.connect();
  }
  connect() {
    const socket = new WebSocket(`${address()}/webcam/video/${this.stage.dataset.page}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.pictures = this.messages = this.unsaid = 0;
      notice("connection", "");
      this.say({ hidden: document.hidden });
      for (let i = 0; i < 5; i++) setTimeout(() => this.ask(), 50 * i);
    };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.heard(JSON.parse(data)) : this.picture(data));
    socket.onclose = () => {
      notice("connection", "The connection to spinn webcam is lost. Trying again; is it still running?");
      setTimeout(() => this.connect(), 1000);
    };
    this.socket = socket;
  }
  say(what) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(what));
  }
  ask() {
    this.say({ ping: performance.now() });
  }
  received(pictures) {
    this.messages += 1;
    this.pictures += pictures;
    this.unsaid += 1;
    if (!pictures && this.unsaid < 3) return; // with a picture, or a few at once
    this.unsaid = 0;
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(new Uint32Array([this.pictures, this.messages]));
    }
  }
  heard(said) {
    if (said.pong !== undefined) {
      this.clock.learn(said.pong, said.now);
      return;
    }
    this.received(0);
    const first = Object.keys(this.answers).length === 0;
    this.answers[said.lane] = said;
    if (first) requestAnimationFrame(() => this.show());
  }
  show() {
    const shown = Object.values(this.answers);
    this.answers = {};
    for (const answer of shown) {
      this.overlays[answer.lane]?.show(answer);
      if (answer.lane !== "ours") continue;
      const painted = new MessageChannel(); // its turn comes once this frame is on the screen
      painted.port1.onmessage = () => {
        if (this.clock.offset !== undefined) this.figures.label(this.delay(answer.captured));
        painted.port1.close();
      };
      painted.port2.postMessage(0);
    }
  }
  delay(captured) {
    return 1000 * (this.clock.at(performance.now()) - captured);
  }
  async picture(data) {
    if (new DataView(data).getUint8(0) !== PICTURE) return;
    if (this.drawing) {
      if (this.waiting) this.received(1); // a newer one takes its place
      this.waiting = data;
      return;
    }
    this.drawing = true;
    for (let next = data; next; next = this.waiting) {
      if (next === this.waiting) this.waiting = null;
      try {
        const bitmap = await createImageBitmap(new Blob([new Uint8Array(next, HEAD)], { type: "image/jpeg" }));
        if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
          this.canvas.width = bitmap.width;
          this.canvas.height = bitmap.height;
        }
        this.context.transferFromImageBitmap(bitmap);
        this.stage.dataset.live = true;
        if (this.clock.offset !== undefined) this.figures.picture(this.delay(new DataView(next).getFloat64(5, true)));
      } catch {
        // half a picture from a camera: the next one is whole
      }
      this.received(1);
    }
    this.drawing = false;
  }
}

class Camera {
  // This browser's camera, as JPEGs to the program.
  constructor(viewer) {
    this.viewer = viewer;
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
    this.canvas = document.createElement("canvas");
  }
  async start() {
    this.stop();
    if (!window.isSecureContext || !navigator.mediaDevices) {
      return say_camera(
        "Browsers give cameras to secure pages only, and this one is not. Start it with --tls self-signed, " +
          "or open it on the same machine as http://localhost.",
      );
    }
    try {
      this.media = await navigator.mediaDevices.getUserMedia({
        video: { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30 }, facingMode: "environment" },
      });
    } catch (error) {
      return say_camera(Camera.why(error));
    }
    for (const track of this.media.getVideoTracks()) {
      track.onended = () => this.stop("The camera stopped: was it unplugged, or its permission taken back?");
    }
    this.video.srcObject = this.media;
    await this.video.play();
    const socket = (this.socket = new WebSocket(`${address()}/webcam/camera/${this.viewer.stage.dataset.page}`));
    this.sending = 0;
    socket.onopen = () => {
      say_camera("");
      this.next();
    };
    socket.onmessage = ({ data }) => {
      this.sending -= 1;
      const { refused } = JSON.parse(data);
      if (refused) say_camera(`The program refused a picture: ${refused}.`);
    };
    socket.onclose = ({ reason }) => {
      if (this.socket !== socket) return;
      this.stop(reason ? `This browser's camera is off: ${reason}.` : "");
    };
  }
  static why({ name, message }) {
    if (name === "NotAllowedError") {
      return "The browser may not use the camera. Allow it at the sign beside the address, then try again.";
    }
    if (name === "NotFoundError" || name === "OverconstrainedError") {
      return "This browser finds no camera. Plug one in, or choose another source.";
    }
    if (name === "NotReadableError" || name === "AbortError") {
      return "The camera is busy: another program or page uses it. Close that, then try again.";
    }
    return `The camera cannot be used: ${message || name}.`;
  }
  stop(why = "") {
    for (const track of this.media?.getTracks() ?? []) track.stop();
    this.media = this.video.srcObject = null;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    say_camera(why);
  }
  next() {
    this.video.requestVideoFrameCallback((now, { captureTime }) => {
      if (!this.media || this.socket?.readyState !== WebSocket.OPEN) return;
      if (this.sending < MOST_SENDING) this.send(captureTime ?? now);
      this.next();
    });
  }
  send(captured) {
    this.sending += 1;
    const socket = this.socket;
    const scale = Math.min(1, WIDEST / this.video.videoWidth);
    this.canvas.width = Math.round(this.video.videoWidth * scale);
    this.canvas.height = Math.round(this.video.videoHeight * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    this.canvas.toBlob(
      async (jpeg) => {
        const time = new DataView(new ArrayBuffer(8));
        time.setFloat64(0, this.viewer.clock.at(captured) ?? 0, true);
        if (jpeg && socket?.readyState === WebSocket.OPEN) socket.send(await new Blob([time.buffer, jpeg]).arrayBuffer());
        else this.sending -= 1;
      },
      "image/jpeg",
      0.8,
    );
  }
}

function address() {
  return location.origin.replace(/^http/, "ws");
}

function notice(name, text) {
  const line = document.querySelector(`[data-notice=${name}]`);
  set(line, text);
  if (line) line.hidden = !text;
}

const say_camera = (text) => notice("camera", text);

function begin() {
  const stage = document.querySelector(".stage");
  if (!stage) return requestAnimationFrame(begin); // the page is still put together
  const viewer = new Viewer(stage);
  window.spinnWebcam = { viewer, camera: new Camera(viewer), figures: (seconds) => viewer.figures.of(seconds) };
}

begin();
