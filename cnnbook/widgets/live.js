// A small network that runs in the page: one draws, and every feature map follows. Plain JavaScript,
// without a library; weights and samples are in the JSON beside it (live.py), nothing is fetched and
// nothing is sent.
(() => {
  "use strict";

  // Everything that a reader sees or hears.
  const SAY = {
    draw: (w, h) =>
      `Drawing square of ${w} by ${h} pixels. Arrow keys move the pen, the space bar puts it down ` +
      "or lifts it, Delete clears the square.",
    pens: { pen: "Pen", brush: "Brush", eraser: "Eraser" },
    clear: "Clear",
    choose: "Networks. Arrow keys go from one to the next.",
    tools: "Tools. Arrow keys go from one to the next.",
    pick: "Samples. Arrow keys go from one to the next.",
    scores: "Classes. Arrow keys show how the score of each is computed.",
    near: "Neighboring units",
    sample: (name) => `Show a sample: ${name}`,
    samples: "Or pick an image that it was not trained on:",
    help: "Draw here. By keyboard: arrow keys move, space draws.",
    hint:
      "Hover, tap or focus a unit: what it reads is framed, and its sum stands below. A click " +
      "brings the sum into sight.",
    prediction: (best) => `Prediction: ${best}`,
    guess: (best, next) => `Prediction: ${best}. Next: ${next}.`,
    empty: "Draw in the square, or pick an image.",
    limits: "It knows these classes only, and takes anything else for one of them.",
    penAt: (down, x, y) => `Pen ${down ? "down" : "up"}, column ${x}, row ${y}.`,
    stage: (s) =>
      s.shape[1] * s.shape[2] > 1
        ? `${counted(s.shape[0], "feature map")} of ${s.shape[1]}×${s.shape[2]}`
        : counted(s.shape[0], "unit"),
    operation: {
      conv: (s) => `convolution ${s.kernel.join("×")}`,
      linear: () => "fully connected",
      max: (s) => `max pooling ${s.kernel.join("×")}`,
      avg: (s) => `average pooling ${s.kernel.join("×")}`,
      same: () => "",
    },
    keys: "Arrow keys choose a unit; with Shift, another feature map.",
    input: "input",
    unit: (s, c, y, x) =>
      s.shape[1] * s.shape[2] > 1
        ? `${s.name}, feature map ${c + 1}, row ${y + 1}, column ${x + 1}`
        : `${s.name}, unit ${c + 1}`,
    scoreOf: (s, name) => `${s.name}, score of “${name}”`,
    sum: (n, sum, bias) =>
      `Sum of ${counted(n, "product")}: ${number(sum)}. ` +
      (bias === null ? "No bias" : `Plus bias ${number(bias)}: ${number(sum + bias)}`),
    max: (n, value) => `Largest of ${counted(n, "value")}: ${number(value)}`,
    avg: (n, value) => `Mean of ${counted(n, "value")}: ${number(value)}`,
    same: (value) => `Value: ${number(value)}`,
    activation: (name, before, after) => `. ${name}(${number(before)}) = ${number(after)}.`,
    score: (share) => `. After softmax: ${share}.`,
    field: (w, h) => ` It sees ${w}×${h} pixels of the input.`,
    grids: { reads: "reads", kernel: "kernel", weights: "weights", products: "products" },
    total: (sum, bias) => [
      `sum ${number(sum)}`,
      ...(bias === null ? [] : [`+ bias ${number(bias)}`, `= ${number(sum + bias)}`]),
    ],
    result: (name, after) => `${name} → ${number(after)}`,
    steps: { ArrowLeft: "←", ArrowUp: "↑", ArrowDown: "↓", ArrowRight: "→" },
    stepNames: {
      ArrowLeft: "Unit to the left",
      ArrowUp: "Unit above",
      ArrowDown: "Unit below",
      ArrowRight: "Unit to the right",
    },
    close: "Close",
  };
  const FRAME = "#D55E00"; // the unit, and what it reads
  const FIELD = "#009E73"; // what it sees of the input
  const GAP = 4; // between feature maps, in CSS pixels
  const UNIT = 12; // side of a unit of a vector
  const ACTIVATIONS = {
    none: (v) => v,
    relu: (v) => (v > 0 ? v : 0),
    tanh: Math.tanh,
    sigmoid: (v) => 1 / (1 + Math.exp(-v)),
  };

  function counted(n, what) {
    return `${n.toLocaleString("en-US")} ${what}${n === 1 ? "" : "s"}`;
  }

  function number(value, short = false) {
    if (Math.abs(value) >= 99.5) return value.toFixed(0).replace("-", "−");
    const text = value.toFixed(Math.abs(value) >= 9.95 ? 1 : 2).replace("-", "−");
    if (text === "−0.00") return short ? "0" : "0.00";
    return short ? text.replace(/^(−?)0\./, "$1.").replace(/^\.00$/, "0") : text;
  }

  function percent(share) {
    return share > 0.995 ? "> 99 %" : `${Math.round(100 * share)} %`;
  }

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  }

  function floats(text) {
    return Float64Array.from(new Float32Array(bytes(text)));
  }

  function element(kind, { text, ...attributes } = {}, children = []) {
    const made = document.createElement(kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    made.append(...children);
    return made;
  }

  // Make buttons one tab stop. Arrow keys, Home and End go from one to another, as in every toolbar.
  function toolbar(box, label) {
    box.setAttribute("role", "toolbar");
    box.setAttribute("aria-label", label);
    box.addEventListener("focusin", (event) => stopAt(box, event.target.closest("button")));
    box.addEventListener("keydown", (event) => {
      const buttons = [...box.querySelectorAll("button")];
      const at = buttons.indexOf(document.activeElement);
      const next = {
        ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1,
        Home: 0, End: buttons.length - 1,
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      buttons[Math.max(0, Math.min(buttons.length - 1, next))].focus();
    });
    stopAt(box, box.querySelector("button"));
    return box;
  }

  // Have the tab key go to one of the buttons.
  function stopAt(box, stop) {
    for (const button of box.querySelectorAll("button")) button.tabIndex = button === stop ? 0 : -1;
  }

  // ---------------------------------------------------------------- the network

  class Network {
    constructor(given) {
      Object.assign(this, given);
      const shape = [given.channels, given.height, given.width];
      this.ink = new Float64Array(given.channels * given.height * given.width); // 0…1
      this.stages = [{ name: SAY.input, kind: "input", activation: "none", shape }];
      this.maps = [new Float64Array(this.ink.length)];
      for (const step of given.steps) {
        const stage = { ...step };
        if (step.weight) {
          stage.weight = floats(step.weight);
          stage.bias = step.bias && floats(step.bias);
        }
        this.stages.push(stage);
        this.maps.push(new Float64Array(stage.shape.reduce((a, b) => a * b)));
      }
      for (const sample of this.samples) {
        sample.ink = Float64Array.from(new Uint8Array(bytes(sample.pixels)), (v) => v / 255);
      }
      this.probabilities = new Float64Array(this.classes.length);
    }

    isEmpty() {
      return !this.ink.some((v) => v > 0);
    }

    // Compute every map from the ink.
    run() {
      const size = this.height * this.width;
      this.ink.forEach((v, i) => {
        const c = Math.floor(i / size);
        this.maps[0][i] = (v - this.mean[c]) / this.std[c];
      });
      for (let i = 1; i < this.stages.length; i++) {
        const stage = this.stages[i];
        const [read, out] = [this.maps[i - 1], this.maps[i]];
        if (stage.kind === "conv") convolve(read, this.stages[i - 1].shape, stage, out);
        else if (stage.kind === "linear") multiply(read, stage, out);
        else if (stage.kind === "same") out.set(read);
        else pool(read, this.stages[i - 1].shape, stage, out);
        if (stage.activation !== "none") {
          const f = ACTIVATIONS[stage.activation];
          for (let j = 0; j < out.length; j++) out[j] = f(out[j]);
        }
      }
      const scores = this.maps[this.maps.length - 1];
      const most = scores.reduce((a, b) => Math.max(a, b));
      const powers = scores.map((v) => Math.exp(v - most));
      const sum = powers.reduce((a, b) => a + b);
      this.probabilities = powers.map((v) => v / sum);
    }

    // What a unit reads of the stage before: columns of cells, one for each map.
    reads(i, c, y, x) {
      const stage = this.stages[i];
      const [channels, height, width] = this.stages[i - 1].shape;
      const read = this.maps[i - 1];
      if (stage.kind === "linear") {
        const size = height * width;
        const flat = size === 1;
        const across = flat ? Math.ceil(Math.sqrt(1.5 * channels)) : width;
        const cells = { rows: flat ? Math.ceil(channels / across) : height, columns: across };
        const n = read.length;
        const parts = flat ? [[0, n]] : [...Array(channels).keys()].map((k) => [k * size, size]);
        return parts.map(([from, count]) => ({
          ...cells,
          values: read.subarray(from, from + count),
          weights: stage.weight.subarray(c * n + from, c * n + from + count),
        }));
      }
      const [kh, kw] = stage.kind === "same" ? [1, 1] : stage.kernel;
      const group = stage.kind === "conv" ? channels / stage.groups : 1;
      const first =
        stage.kind === "conv" ? Math.floor(c / (stage.shape[0] / stage.groups)) * group : c;
      const columns = [];
      for (let k = 0; k < group; k++) {
        const values = new Float64Array(kh * kw);
        const inside = new Uint8Array(kh * kw);
        for (let a = 0; a < kh; a++) {
          for (let b = 0; b < kw; b++) {
            const [py, px] = this.at(stage, y, x, a, b);
            if (py >= 0 && py < height && px >= 0 && px < width) {
              values[a * kw + b] = read[((first + k) * height + py) * width + px];
              inside[a * kw + b] = 1;
            }
          }
        }
        const at = (c * group + k) * kh * kw;
        const weights = stage.kind === "conv" ? stage.weight.subarray(at, at + kh * kw) : null;
        columns.push({ rows: kh, columns: kw, values, inside, weights, map: first + k });
      }
      return columns;
    }

    at(stage, y, x, a, b) {
      if (stage.kind === "same") return [y, x];
      const [[sy, sx], [py, px], [dy, dx]] = [stage.stride, stage.padding, stage.dilation];
      return [y * sy - py + a * dy, x * sx - px + b * dx];
    }

    // The rectangle [top, bottom, left, right] of stage `to` that a unit of stage i depends on.
    field(i, y, x, to) {
      let box = [y, y, x, x];
      for (let j = i; j > to; j--) {
        const stage = this.stages[j];
        const [, height, width] = this.stages[j - 1].shape;
        if (stage.kind === "linear") box = [0, height - 1, 0, width - 1];
        else if (stage.kind !== "same") {
          const [kh, kw] = stage.kernel;
          const [top, left] = this.at(stage, box[0], box[2], 0, 0);
          const [bottom, right] = this.at(stage, box[1], box[3], kh - 1, kw - 1);
          box = [Math.max(top, 0), Math.min(bottom, height - 1)];
          box.push(Math.max(left, 0), Math.min(right, width - 1));
        }
      }
      return box;
    }
  }

  // The outputs y with 0 ≤ y·stride + offset < size, of `count`: from, up to.
  function range(count, stride, offset, size) {
    const from = Math.max(0, Math.ceil(-offset / stride));
    return [from, Math.min(count, Math.floor((size - 1 - offset) / stride) + 1)];
  }

  function convolve(read, [channels, height, width], stage, out) {
    const [outputs, rows, columns] = stage.shape;
    const [[kh, kw], [sy, sx]] = [stage.kernel, stage.stride];
    const group = channels / stage.groups;
    const each = outputs / stage.groups;
    for (let o = 0, w = 0; o < outputs; o++) {
      const to = o * rows * columns;
      out.fill(stage.bias ? stage.bias[o] : 0, to, to + rows * columns);
      const first = Math.floor(o / each) * group;
      for (let c = first; c < first + group; c++) {
        for (let a = 0; a < kh; a++) {
          const dy = a * stage.dilation[0] - stage.padding[0];
          const [top, bottom] = range(rows, sy, dy, height);
          for (let b = 0; b < kw; b++, w++) {
            const weight = stage.weight[w];
            const dx = b * stage.dilation[1] - stage.padding[1];
            const [left, right] = range(columns, sx, dx, width);
            for (let y = top; y < bottom; y++) {
              let from = (c * height + y * sy + dy) * width + left * sx + dx;
              const end = to + y * columns + right;
              for (let at = to + y * columns + left; at < end; at++, from += sx) {
                out[at] += weight * read[from];
              }
            }
          }
        }
      }
    }
  }

  function multiply(read, stage, out) {
    const n = read.length;
    for (let o = 0; o < out.length; o++) {
      let sum = stage.bias ? stage.bias[o] : 0;
      for (let i = 0; i < n; i++) sum += stage.weight[o * n + i] * read[i];
      out[o] = sum;
    }
  }

  function pool(read, [, height, width], stage, out) {
    const [channels, rows, columns] = stage.shape;
    const [kh, kw] = stage.kernel;
    for (let c = 0, at = 0; c < channels; c++) {
      for (let y = 0; y < rows; y++) {
        for (let x = 0; x < columns; x++, at++) {
          let [most, sum] = [-Infinity, 0];
          for (let a = 0; a < kh; a++) {
            const py = y * stage.stride[0] - stage.padding[0] + a * stage.dilation[0];
            if (py < 0 || py >= height) continue;
            for (let b = 0; b < kw; b++) {
              const px = x * stage.stride[1] - stage.padding[1] + b * stage.dilation[1];
              if (px < 0 || px >= width) continue;
              const value = read[(c * height + py) * width + px];
              sum += value;
              if (value > most) most = value;
            }
          }
          out[at] = stage.kind === "max" ? most : sum / (kh * kw);
        }
      }
    }
  }

  // ---------------------------------------------------------------- pictures

  // A canvas as large on the screen as it says, sharp on any screen.
  function sized(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      [canvas.width, canvas.height] = [w, h];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    return context;
  }

  // Small pictures of one pixel per value, to be drawn enlarged. They are made anew with every
  // stroke, so that each holds a whole stage: feature maps stand below one another.
  class Picture {
    constructor() {
      this.canvas = document.createElement("canvas");
      this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    }

    // Set the pixels to the colors of `count` values; any others are transparent.
    set(columns, rows, count, color) {
      if (this.image?.width !== columns || this.image.height !== rows) {
        [this.canvas.width, this.canvas.height] = [columns, rows];
        this.image = this.context.createImageData(columns, rows);
        this.pixels = new Uint32Array(this.image.data.buffer);
      }
      for (let i = 0; i < count; i++) this.pixels[i] = color(i);
      this.context.putImageData(this.image, 0, 0);
    }

    // Draw `rows` of its rows, from row `top` on, into a rectangle.
    draw(context, top, rows, x, y, width, height) {
      context.drawImage(this.canvas, 0, top, this.canvas.width, rows, x, y, width, height);
    }
  }

  // A pixel as a number, in the order of bytes that every machine with a browser has today.
  const pixel = (red, green, blue) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

  // Colors from purple over white to orange, white for zero.
  function signed(palette, values, limit) {
    const middle = (palette.length - 1) / 2;
    const factor = limit > 0 ? middle / limit : 0;
    return (i) => {
      const at = Math.round(middle + values[i] * factor);
      return palette[Math.max(0, Math.min(2 * middle, at))];
    };
  }

  function drawn(ink, size, channels) {
    const byte = (i) => Math.round(255 * ink[i]);
    if (channels === 1) {
      return (i) => {
        const gray = byte(i);
        return pixel(gray, gray, gray);
      };
    }
    return (i) => pixel(byte(i), byte(size + i), byte(2 * size + i));
  }

  // ---------------------------------------------------------------- the page

  class Live {
    constructor(root) {
      this.root = root;
      const given = JSON.parse(root.querySelector("script[type='application/json']").textContent);
      this.palette = Uint32Array.from(given.palette, (color) => pixel(...color));
      this.picture = new Picture();
      this.given = given;
      this.tool = "pen";
      this.pending = false;
      this.owed = new Map(); // what is to be said, by subject
      this.interface = element("div", { class: "cnnbook-live-page" });
      root.append(this.interface);
      root.dataset.alive = "";
      this.networks = given.networks.map((network) => new Network(network));
      this.build();
      this.use(0);
      this.measure();
      // Observers are called before the page is shown: what has another width now is drawn at once,
      // not with the next frame.
      new ResizeObserver(() => {
        if (this.ruler.clientWidth === this.width) return;
        this.measure();
        this.frame();
      }).observe(this.ruler);
      // Farther down the page, the sum would only be in the way.
      new IntersectionObserver(([entry]) => {
        if (!entry.isIntersecting) this.open(null);
      }).observe(this.interface);
      this.interface.addEventListener("keydown", (event) => {
        if (event.key === "Escape") this.open(null);
      });
      // Light and dark pages differ in the color of what is written.
      new MutationObserver(() => this.measure()).observe(document.documentElement, {
        attributeFilter: ["data-theme"],
      });
      root.liveNetwork = this;
    }

    build() {
      this.square = element("canvas", {
        class: "cnnbook-live-square",
        tabindex: 0,
        role: "application",
      });
      this.status = element("p", { class: "cnnbook-live-hidden", "aria-live": "polite" });
      const button = (text, action, more = {}) => {
        const made = element("button", { type: "button", text, ...more });
        made.addEventListener("click", action);
        return made;
      };
      this.pens = Object.entries(SAY.pens).map(([name, text]) =>
        button(text, () => this.take(name), { "data-tool": name }),
      );
      const row = (label, buttons) =>
        toolbar(element("div", { class: "cnnbook-live-row" }, buttons), label);
      const tools = row(SAY.tools, [...this.pens, button(SAY.clear, () => this.clear())]);
      this.choices = this.networks.map((network, i) => button(network.name, () => this.use(i)));
      const choice = row(SAY.choose, this.choices);
      choice.hidden = this.networks.length < 2;
      this.samples = row(SAY.pick, []);
      this.answer = element("p", { class: "cnnbook-live-answer" });
      this.list = toolbar(element("div", { class: "cnnbook-live-classes" }), SAY.scores);
      this.layers = element("div", { class: "cnnbook-live-layers" });
      this.words = element("p", { class: "cnnbook-live-words" });
      this.heading = element("strong");
      this.sums = element("canvas", { "aria-hidden": "true" });
      const steps = Object.entries(SAY.steps).map(([key, text]) =>
        button(text, () => this.step(key, false), { "aria-label": SAY.stepNames[key] }),
      );
      const close = button("×", () => this.open(null), {
        "aria-label": SAY.close,
        class: "cnnbook-live-close",
      });
      const near = row(SAY.near, [...steps, close]);
      near.classList.add("cnnbook-live-steps");
      this.panel = element("div", { class: "cnnbook-live-unit" }, [
        near,
        this.heading,
        this.words,
        this.sums,
      ]);
      // As wide as the page allows, and of no height, which would change with what is drawn.
      this.ruler = element("div");
      this.interface.append(
        this.ruler,
        choice,
        element("div", { class: "cnnbook-live-top" }, [
          element("div", { class: "cnnbook-live-hand" }, [
            this.square,
            element("p", { class: "cnnbook-live-note", text: SAY.help }),
            tools,
            this.answer,
            this.list,
            element("p", { class: "cnnbook-live-note", text: SAY.limits }),
            element("p", { class: "cnnbook-live-note", text: SAY.samples }),
            this.samples,
          ]),
          element("div", { class: "cnnbook-live-maps" }, [
            this.layers,
            element("p", { class: "cnnbook-live-note", text: SAY.hint }),
          ]),
        ]),
        this.panel,
        this.status,
      );
      this.take("pen");
      this.listen();
    }

    // Show the i-th network.
    use(i) {
      this.network = this.networks[i];
      const { network } = this;
      this.choices.forEach((b, j) => b.setAttribute("aria-pressed", i === j));
      this.square.setAttribute("aria-label", SAY.draw(network.width, network.height));
      this.cursor = [Math.floor(network.width / 2), Math.floor(network.height / 4)];
      this.down = false;

      this.samples.replaceChildren(
        ...network.samples.map((sample) => {
          const thumbnail = element("canvas", { "aria-hidden": "true" });
          const context = sized(thumbnail, 40, 40);
          const size = network.height * network.width;
          const side = Math.max(network.height, network.width);
          this.picture.set(
            network.width, network.height, size, drawn(sample.ink, size, network.channels),
          );
          const [w, h] = [network.width, network.height].map((n) => (40 * n) / side);
          this.picture.draw(context, 0, network.height, (40 - w) / 2, (40 - h) / 2, w, h);
          const name = network.classes[sample.label];
          const made = element("button", { type: "button", "aria-label": SAY.sample(name) }, [
            thumbnail,
          ]);
          made.addEventListener("click", () => this.show(sample.ink));
          return made;
        }),
      );
      stopAt(this.samples, this.samples.firstElementChild);

      this.stages = [];
      this.layers.replaceChildren();
      const last = network.stages.length - 1;
      network.stages.slice(1, last).forEach((stage, k) => {
        const index = k + 1;
        const parts = [SAY.operation[stage.kind](stage)];
        parts.push(stage.activation === "none" ? "" : stage.activation);
        const caption = `${SAY.stage(stage)}, ${parts.filter(Boolean).join(", ")}`;
        const canvas = element("canvas", {
          tabindex: 0,
          role: "application",
          "aria-label": `${stage.name}: ${caption}. ${SAY.keys}`,
        });
        this.stages[index] = { canvas, chosen: null };
        this.layers.append(
          element("div", { class: "cnnbook-live-stage" }, [
            element("p", { class: "cnnbook-live-note" }, [
              element("strong", { text: stage.name }),
              ` ${caption}`,
            ]),
            canvas,
          ]),
        );
        this.follow(index, canvas);
      });
      this.rows = network.classes.map((name, c) => {
        const bar = element("span", { class: "cnnbook-live-bar" });
        const share = element("span", { class: "cnnbook-live-share" });
        const row = element("button", { type: "button" }, [
          element("span", { class: "cnnbook-live-name", text: name }),
          element("span", { class: "cnnbook-live-track" }, [bar]),
          share,
        ]);
        const choose = () => this.choose(last, c, 0, 0);
        row.addEventListener("pointerenter", (e) => e.pointerType === "mouse" && choose());
        row.addEventListener("focus", choose);
        row.addEventListener("click", () => {
          choose();
          this.open(row);
        });
        return { row, bar, share };
      });
      this.list.replaceChildren(...this.rows.map(({ row }) => row));
      stopAt(this.list, this.rows[0].row);

      const first = network.stages[1].shape;
      const middle = [Math.floor(first[1] / 2), Math.floor(first[2] / 2)];
      this.chosen = { stage: 1, at: [0, ...middle] };
      this.show(network.samples[0].ink, false);
    }

    // ------------------------------------------------------------ drawing by hand

    take(name) {
      this.tool = name;
      this.pens.forEach((b) => b.setAttribute("aria-pressed", b.dataset.tool === name));
    }

    clear() {
      this.network.ink.fill(0);
      this.redraw(true);
    }

    // Put pixels of 0…1, channels first, into the square.
    show(pixels, spoken = true) {
      this.network.ink.set(pixels);
      this.redraw(spoken);
    }

    // Draw a line between two points, in pixels of the input.
    line([x0, y0], [x1, y1]) {
      const { network } = this;
      const { height, width, channels } = network;
      const side = Math.min(height, width);
      const radius = (this.tool === "pen" ? 0.08 : 0.15) * side;
      const [dx, dy] = [x1 - x0, y1 - y0];
      const square = dx * dx + dy * dy;
      const around = radius + 1;
      const rows = [Math.min(y0, y1) - around, Math.max(y0, y1) + around];
      const columns = [Math.min(x0, x1) - around, Math.max(x0, x1) + around];
      for (let y = Math.max(0, Math.floor(rows[0])); y < Math.min(height, rows[1]); y++) {
        for (let x = Math.max(0, Math.floor(columns[0])); x < Math.min(width, columns[1]); x++) {
          const [px, py] = [x + 0.5 - x0, y + 0.5 - y0];
          const t = square ? Math.max(0, Math.min(1, (px * dx + py * dy) / square)) : 0;
          const distance = Math.hypot(px - t * dx, py - t * dy);
          // An edge as soft as that of a scanned stroke.
          const ink = Math.max(0, Math.min(1, (radius + 0.75 - distance) / 1.5));
          for (let c = 0; c < channels; c++) {
            const i = (c * height + y) * width + x;
            const old = network.ink[i];
            network.ink[i] = this.tool === "eraser" ? Math.min(old, 1 - ink) : Math.max(old, ink);
          }
        }
      }
      this.redraw(true);
    }

    listen() {
      const { square } = this;
      let last = null;
      const where = (event) => {
        const box = square.getBoundingClientRect();
        return [
          ((event.clientX - box.left) / box.width) * this.network.width,
          ((event.clientY - box.top) / box.height) * this.network.height,
        ];
      };
      square.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || !event.isPrimary) return; // of several fingers, one draws
        square.setPointerCapture(event.pointerId);
        last = where(event);
        this.line(last, last);
      });
      square.addEventListener("pointermove", (event) => {
        if (!last || !event.isPrimary) return;
        const events = event.getCoalescedEvents?.() ?? [];
        for (const each of events.length ? events : [event]) {
          const next = where(each);
          this.line(last, next);
          last = next;
        }
      });
      for (const end of ["pointerup", "pointercancel"]) {
        square.addEventListener(end, (event) => {
          if (event.isPrimary) last = null;
        });
      }
      square.addEventListener("keydown", (event) => this.keyed(event));
      for (const change of ["focus", "blur"]) {
        square.addEventListener(change, () => {
          this.down = false;
          this.redraw();
        });
      }
    }

    keyed(event) {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const { width, height } = this.network;
      if (event.key in move) {
        const before = this.cursor;
        this.cursor = before.map((v, i) =>
          Math.max(0, Math.min([width, height][i] - 1, v + move[event.key][i])),
        );
        if (this.down) this.line(...[before, this.cursor].map(([x, y]) => [x + 0.5, y + 0.5]));
      } else if (event.key === " ") {
        this.down = !this.down;
        const point = this.cursor.map((v) => v + 0.5);
        if (this.down) this.line(point, point);
        this.say(SAY.penAt(this.down, this.cursor[0] + 1, this.cursor[1] + 1));
      } else if (event.key === "Delete" || event.key === "Backspace") this.clear();
      else if (event.key === "Escape") this.down = false;
      else return;
      event.preventDefault();
      this.redraw();
    }

    // ------------------------------------------------------------ choosing a unit

    choose(stage, c, y, x) {
      this.chosen = { stage, at: [c, y, x] };
      if (this.stages[stage]) this.stages[stage].chosen = [c, y, x];
      this.redraw();
      this.sayLater("unit", () => `${this.heading.textContent}. ${this.words.textContent}`);
    }

    // After a tap or a click, the sum stays in sight, and so does what was tapped; or close it.
    open(tapped) {
      const isOpen = this.panel.classList.contains("cnnbook-live-open");
      const isSeen = this.panel.getBoundingClientRect().bottom <= innerHeight;
      if (tapped && !isOpen && isSeen && !this.narrow) return; // where it stands anyway
      this.panel.classList.toggle("cnnbook-live-open", tapped !== null);
      this.measure();
      this.tapped = this.covers ? tapped : null;
    }

    // Scroll until the panel covers neither what was tapped nor, if there is room, the frames above
    // it, which show what the unit reads.
    uncover() {
      const box = this.tapped.getBoundingClientRect();
      const above = this.stages[this.chosen.stage - 1]?.canvas.getBoundingClientRect();
      const start = parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) || 0;
      const end = this.panel.getBoundingClientRect().top - GAP;
      const fits = above && above.top < box.top && box.bottom - above.top <= end - start;
      const top = fits ? above.top : box.top;
      const by = Math.min(box.bottom > end ? box.bottom - end : 0, top - start);
      scrollBy({ top: by, behavior: "instant" });
      this.tapped = null;
    }

    follow(index, canvas) {
      const { shape } = this.network.stages[index];
      const unit = (event) => {
        const { layout } = this.stages[index];
        const box = canvas.getBoundingClientRect();
        const [px, py] = [event.clientX - box.left, event.clientY - box.top];
        const limited = (v, n) => Math.max(0, Math.min(n - 1, Math.floor(v)));
        const column = limited(px / layout.pitch[0], layout.columns);
        const row = limited(py / layout.pitch[1], layout.rows);
        const c = Math.min(shape[0] - 1, row * layout.columns + column);
        const y = limited((py - row * layout.pitch[1]) / layout.cell, shape[1]);
        const x = limited((px - column * layout.pitch[0]) / layout.cell, shape[2]);
        return () => this.choose(index, c, y, x);
      };
      canvas.addEventListener("pointermove", (e) => e.pointerType === "mouse" && unit(e)());
      canvas.addEventListener("click", (event) => {
        unit(event)();
        this.open(canvas);
      });
      canvas.addEventListener("focus", () => {
        if (!canvas.matches(":focus-visible") || this.chosen.stage === index) return;
        const [, h, w] = shape;
        this.choose(
          index, ...(this.stages[index].chosen ?? [0, Math.floor(h / 2), Math.floor(w / 2)]),
        );
      });
      canvas.addEventListener("keydown", (event) => {
        if (!(event.key in SAY.steps)) return;
        event.preventDefault();
        this.step(event.key, event.shiftKey);
      });
    }

    // Go to a neighboring unit, at the edge of a map to the next map; or by a whole map.
    step(key, byMap) {
      const { stage, at } = this.chosen;
      const [maps, h, w] = this.network.stages[stage].shape;
      const columns = this.stages[stage]?.layout.columns ?? 1;
      let [c, y, x] = at;
      const across = key === "ArrowLeft" || key === "ArrowRight";
      const by = key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1;
      const next = across ? x + by : y + by;
      if (!byMap && next >= 0 && next < (across ? w : h)) {
        if (across) x = next;
        else y = next;
      } else {
        const other = c + by * (across ? 1 : columns);
        if (other < 0 || other >= maps) return;
        c = other;
        if (!byMap && across) x = by > 0 ? 0 : w - 1;
        if (!byMap && !across) y = by > 0 ? 0 : h - 1;
      }
      this.choose(stage, c, y, x);
    }

    // ------------------------------------------------------------ speaking

    // At once. What is still to be said is said afterwards, not forgotten.
    say(text) {
      this.status.textContent = text;
      if (this.owed.size) this.sayLater();
    }

    // What changes with every movement is said when it has come to rest: of each subject the last.
    sayLater(subject, text) {
      if (subject) this.owed.set(subject, text);
      clearTimeout(this.speaking);
      this.speaking = setTimeout(() => {
        this.status.textContent = ["prediction", "unit"]
          .flatMap((each) => this.owed.get(each)?.() ?? [])
          .join(" ");
        this.owed.clear();
      }, 400);
    }

    // ------------------------------------------------------------ pictures

    redraw(spoken = false) {
      this.spoken ||= spoken;
      if (this.pending) return;
      this.pending = true;
      requestAnimationFrame(() => {
        this.pending = false;
        this.frame();
      });
    }

    // Look how much room there is, which takes too long for every stroke.
    measure() {
      this.width = this.ruler.clientWidth;
      if (!this.width) return; // not laid out yet, or hidden: there is nothing to draw on
      this.narrow = this.width < 640;
      const { left, width } = this.ruler.getBoundingClientRect();
      this.panel.style.setProperty("--left", `${left}px`);
      this.panel.style.setProperty("--width", `${width}px`);
      const inside = (part) => part.clientWidth - 2;
      this.room = {
        hand: inside(this.square.parentElement),
        maps: inside(this.layers),
        unit: inside(this.words),
      };
      this.color = getComputedStyle(this.root).color;
      // Where the panel lies over the page, it must not cover all feature maps, and leaves its room
      // to them.
      this.covers = getComputedStyle(this.panel).position === "fixed";
      this.interface.style.paddingBottom = this.covers ? `${this.panel.offsetHeight}px` : "";
      this.redraw();
    }

    // Compute and draw everything, once it is known how much room there is.
    frame() {
      if (!this.room) return;
      const { network } = this;
      network.run();
      this.drawSquare();
      for (let i = 1; i < network.stages.length - 1; i++) this.drawStage(i);
      const order = [...network.probabilities.keys()].sort(
        (a, b) => network.probabilities[b] - network.probabilities[a],
      );
      const { stage, at } = this.chosen;
      const last = network.stages.length - 1;
      const named = (c) => `${network.classes[c]}, ${percent(network.probabilities[c])}`;
      // It would call an empty square something, too.
      const isEmpty = network.isEmpty();
      this.answer.textContent = isEmpty ? SAY.empty : SAY.prediction(named(order[0]));
      this.rows.forEach(({ row, bar, share }, c) => {
        bar.style.width = isEmpty ? 0 : `${100 * network.probabilities[c]}%`;
        share.textContent = isEmpty ? "" : percent(network.probabilities[c]);
        row.classList.toggle("cnnbook-live-best", !isEmpty && c === order[0]);
        row.classList.toggle("cnnbook-live-chosen", stage === last && at[0] === c);
      });
      this.drawUnit();
      if (this.tapped) this.uncover();
      if (this.spoken) {
        this.spoken = false;
        this.sayLater("prediction", () =>
          isEmpty ? SAY.empty : SAY.guess(named(order[0]), named(order[1])),
        );
      }
    }

    drawSquare() {
      const { network, square } = this;
      const { height, width } = network;
      const cell = Math.min(this.room.hand, this.narrow ? 280 : 288) / Math.max(height, width);
      const context = sized(square, width * cell, height * cell);
      const size = height * width;
      this.picture.set(width, height, size, drawn(network.ink, size, network.channels));
      this.picture.draw(context, 0, height, 0, 0, width * cell, height * cell);
      const { stage, at } = this.chosen;
      const [top, bottom, left, right] = network.field(stage, at[1], at[2], 0);
      outline(context, left * cell, top * cell, (right - left + 1) * cell,
        (bottom - top + 1) * cell, stage === 1 ? FRAME : FIELD);
      if (document.activeElement === square && square.matches(":focus-visible")) {
        context.beginPath();
        const [x, y] = this.cursor.map((v) => (v + 0.5) * cell);
        context.arc(x, y, 1.5 * cell, 0, 2 * Math.PI);
        context.lineWidth = this.down ? 4 : 2;
        context.strokeStyle = FRAME;
        context.stroke();
      }
    }

    drawStage(i) {
      const { network } = this;
      const stage = network.stages[i];
      const [maps, h, w] = stage.shape;
      const { canvas } = this.stages[i];
      const room = this.room.maps;
      const vector = h * w === 1;
      const least = vector ? UNIT : Math.max(40, Math.min(w, 64));
      const gap = vector ? 0 : GAP;
      const fit = Math.max(1, Math.min(maps, Math.floor((room + gap) / (least + gap))));
      const rows = Math.ceil(maps / fit);
      const columns = Math.ceil(maps / rows);
      const cell = vector ? UNIT : Math.min((room + gap) / columns - gap, 64) / Math.max(h, w);
      const pitch = [w * cell + gap, h * cell + gap];
      this.stages[i].layout = { rows, columns, cell, pitch };
      const context = sized(canvas, columns * pitch[0] - gap, rows * pitch[1] - gap);
      const values = network.maps[i];
      const limit = scale(stage, values);
      const place = (c) => [(c % columns) * pitch[0], Math.floor(c / columns) * pitch[1]];
      const color = signed(this.palette, values, limit);
      if (vector) {
        this.picture.set(columns, rows, maps, color);
        this.picture.draw(context, 0, rows, 0, 0, columns * cell, rows * cell);
      } else {
        this.picture.set(w, maps * h, values.length, color);
        for (let c = 0; c < maps; c++) {
          this.picture.draw(context, c * h, h, ...place(c), w * cell, h * cell);
        }
      }
      const { stage: chosen, at } = this.chosen;
      if (chosen === i) {
        const [x, y] = place(at[0]);
        // A unit of two pixels would be lost in its own frame.
        const side = Math.max(cell, 7);
        const [left, top] = [at[2], at[1]].map((v) => (v + 0.5) * cell - side / 2);
        outline(context, x + left, y + top, side, side, FRAME);
      } else if (chosen === i + 1) {
        if (network.stages[chosen].kind === "linear") {
          outline(context, 0, 0, columns * pitch[0] - gap, rows * pitch[1] - gap, FRAME);
          return;
        }
        const [top, bottom, left, right] = network.field(chosen, at[1], at[2], i);
        for (const { map } of network.reads(chosen, ...at)) {
          const [x, y] = place(map);
          outline(context, x + left * cell, y + top * cell, (right - left + 1) * cell,
            (bottom - top + 1) * cell, FRAME);
        }
      }
    }

    drawUnit() {
      const { network } = this;
      const { stage: i, at } = this.chosen;
      const stage = network.stages[i];
      const columns = network.reads(i, ...at);
      const [, h, w] = stage.shape;
      const after = network.maps[i][(at[0] * h + at[1]) * w + at[2]];
      let [count, before] = [0, 0];
      for (const part of columns) {
        part.products = weighted(columns) ? part.values.map((v, k) => v * part.weights[k]) : null;
        part.sum = (part.products ?? part.values).reduce((a, b) => a + b, 0);
        before += part.sum;
        count += part.values.length;
      }
      const last = i === network.stages.length - 1;
      this.heading.textContent = last
        ? SAY.scoreOf(stage, network.classes[at[0]])
        : SAY.unit(stage, ...at);
      let words;
      let total = [];
      if (weighted(columns)) {
        const bias = stage.bias ? stage.bias[at[0]] : null;
        words = SAY.sum(count, before, bias);
        total = SAY.total(before, bias);
        before += bias ?? 0;
      } else if (stage.kind === "max") {
        const seen = [...columns[0].values].filter((_, k) => columns[0].inside[k]);
        before = Math.max(...seen);
        words = SAY.max(seen.length, before);
      } else if (stage.kind === "avg") {
        before /= count;
        words = SAY.avg(count, before);
      } else words = SAY.same(before);
      if (stage.activation === "none") words += last ? "" : ".";
      else {
        words += SAY.activation(stage.activation, before, after);
        total.push(SAY.result(stage.activation, after));
      }
      if (last) words += network.isEmpty() ? "." : SAY.score(percent(network.probabilities[at[0]]));
      const [top, bottom, left, right] = network.field(i, at[1], at[2], 0);
      this.words.textContent = words + SAY.field(right - left + 1, bottom - top + 1);

      const largest = (key) =>
        columns.reduce((m, part) => part[key].reduce((n, v) => Math.max(n, Math.abs(v)), m), 0);
      const kinds = [["values", scale(network.stages[i - 1], network.maps[i - 1])]];
      if (weighted(columns)) kinds.push(["weights", largest("weights")], ["products", largest("products")]);
      const titles = { values: SAY.grids.reads, products: SAY.grids.products };
      titles.weights = stage.kind === "conv" ? SAY.grids.kernel : SAY.grids.weights;
      this.drawGrids(columns, kinds, titles, total);
    }

    // Grids of cells, one kind below or beside the other; one column for each map that is read.
    drawGrids(columns, kinds, titles, total) {
      const room = this.room.unit;
      const most = this.covers ? 200 : this.narrow ? 324 : 230;
      const title = 18;
      const gap = 8;
      const { rows: r, columns: k } = columns[0];
      const n = columns.length;
      // Try every number of grids per line, and take the one with the largest cells.
      const grids = n === 1 ? kinds.length : n;
      let best = { cell: 0 };
      for (let across = 1; across <= grids; across++) {
        const lines = n === 1 ? Math.ceil(grids / across) : kinds.length * Math.ceil(n / across);
        const below = n === 1 ? 0 : Math.ceil(n / across) * title;
        const heads = n === 1 ? lines : kinds.length;
        const high = (most - heads * title - below - (lines - 1) * 4) / lines / r;
        const cell = Math.min((room + gap) / across / k - gap / k, high, 36);
        if (cell > best.cell) best = { cell, across };
      }
      const { cell, across } = best;
      const [width, height] = [k * cell, r * cell];
      const { color } = this;
      const context = sized(this.sums, room, most);
      context.font = "12px system-ui, sans-serif";
      const write = (text, x, y, align = "left", ink = color) => {
        [context.textAlign, context.fillStyle] = [align, ink];
        context.fillText(text, x, y);
      };
      const grid = (part, [key, limit], x, y) => {
        const values = part[key];
        const seen = (j) => j < values.length && (key === "weights" || !part.inside || part.inside[j]);
        const color = signed(this.palette, values, limit);
        const paint = (j) => (seen(j) ? color(j) : 0);
        this.picture.set(k, r, r * k, paint);
        this.picture.draw(context, 0, r, x, y, width, height);
        context.strokeStyle = this.color;
        context.lineWidth = 0.5;
        context.strokeRect(x, y, width, height);
        if (cell < 27) return;
        context.font = `${cell < 32 ? 11 : 12}px system-ui, sans-serif`;
        for (let j = 0; j < values.length; j++) {
          const [red, green, blue] = [0, 8, 16].map((by) => (paint(j) >>> by) & 255);
          const dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140;
          const [cx, cy] = [x + ((j % k) + 0.5) * cell, y + (Math.floor(j / k) + 0.5) * cell + 4];
          const ink = seen(j) ? (dark ? "#fff" : "#000") : this.color;
          write(number(values[j], true), cx, cy, "center", ink);
        }
      };
      // Where there is room, what becomes of the products stands behind them.
      const sum = (x, y) => {
        if (!weighted(columns) || room - x < 90) return;
        context.font = "14px system-ui, sans-serif";
        total.forEach((text, j) => write(text, x, y + 20 * (j + 1)));
      };
      if (n === 1) {
        kinds.forEach((kind, j) => {
          const x = (j % across) * (width + gap);
          const y = Math.floor(j / across) * (height + title + 4);
          const sign = { values: "", weights: "× ", products: "= " }[kind[0]];
          context.font = "12px system-ui, sans-serif";
          write(sign + titles[kind[0]], x, y + 13);
          grid(columns[0], kind, x, y + title);
        });
        const y = Math.floor((grids - 1) / across) * (height + title + 4) + title;
        sum(((grids - 1) % across) * (width + gap) + width + 2 * gap, y);
      } else {
        let y = 0;
        const step = width + gap;
        for (const kind of kinds) {
          write({ weights: "× ", products: "= " }[kind[0]] ?? "", 0, y + 13);
          write(titles[kind[0]], kind[0] === "values" ? 0 : 14, y + 13);
          y += title;
          for (let from = 0; from < n; from += across) {
            const line = columns.slice(from, from + across);
            line.forEach((part, j) => grid(part, kind, j * step, y));
            y += height + 4;
            if (kind[0] === "products") {
              if (step >= 30) {
                line.forEach((part, j) => {
                  write(number(part.sum, true), j * step + width / 2, y + 9, "center");
                });
              }
              y += title - 4;
            }
          }
        }
        sum(across * step + gap, 0);
      }
    }
  }

  function weighted(columns) {
    return columns[0].weights !== null;
  }

  // The value with the strongest color.
  function scale(stage, values) {
    if (stage.activation === "tanh" || stage.activation === "sigmoid") return 1;
    return values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  }

  // A frame around a rectangle, white outside so that it is seen on any color.
  function outline(context, x, y, width, height, color) {
    context.lineWidth = 4;
    context.strokeStyle = "rgb(255 255 255 / 80%)";
    context.strokeRect(x, y, width, height);
    context.lineWidth = 2;
    context.strokeStyle = color;
    context.strokeRect(x, y, width, height);
  }

  for (const root of document.querySelectorAll(".cnnbook-live:not([data-alive])")) new Live(root);
})();
