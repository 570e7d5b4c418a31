// Lets a reader put a picture of their own into an explorer of convolution or of filters. The page
// itself shrinks it and computes what the explorer shows; nothing is sent anywhere. explorers.js
// loads this script where an explorer brings what is needed (cnnbook/widgets/own.py).
(() => {
  // Everything that a reader sees or hears.
  const SAY = {
    choose: "Choose your own picture",
    drop: "or drop it here. It stays on this page.",
    back: "Back to the book’s picture",
    taken: (w, h) => `Your picture, as ${w}×${h} gray pixels.`,
    failed: (name) => `“${name}” is no picture that this browser can open. Try a PNG or a JPEG file.`,
    image: "image",
    map: "feature map",
    pixels: (n, padding) => `${n}×${n}${padding ? `, padding ${padding}` : " pixels"}`,
    parts: ["pixels", "kernel", "products"],
    sum: "sum",
    output: (h, w) => `output ${h}×${w}`,
    position: (n, count, terms, value) => `Position ${n} of ${count}: ${terms} = ${value}`,
    convolved: (n, count, row, column, value) =>
      `Convolution of your picture: position ${n} of ${count}, output row ${row}, ` +
      `column ${column}, value ${value}.`,
    before: "before",
    kernel: "kernel",
    after: (signed) => `after${signed ? " (gray is 0)" : ""}`,
    filtered: (name, times) =>
      `Your picture before and after the filter ${name}, applied ${times === 1 ? "once" : `${times} times`}.`,
  };

  // ---------------------------------------------------------------- numbers

  // As cnnbook.widgets.filters.in_words: in few characters, parts of 1 as fractions.
  function inWords(value) {
    let text = String(Number(value.toPrecision(2)));
    for (let below = 1; below <= 16; below++) {
      const above = Math.round(value * below);
      if (Math.abs(above / below - value) < 1e-5 && (below === 1 || Math.abs(value) < 1)) {
        text = below === 1 ? `${above}` : `${above}/${below}`;
        break;
      }
    }
    return text.replace(/^-0$/, "0").replace("-", "−");
  }

  const total = (rows) => rows.flat().reduce((sum, value) => sum + value, 0);
  const largest = (rows) => rows.flat().reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  const table = (height, width, value) =>
    Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => value(y, x)));

  // Outside, the rows are zero, or, `nearest`, their border.
  function convolved(rows, kernel, { stride = 1, padding = 0, dilation = 1, nearest = false }) {
    const [height, width, k] = [rows.length, rows[0].length, kernel.length];
    const size = (n) => Math.floor((n + 2 * padding - dilation * (k - 1) - 1) / stride) + 1;
    const inside = (v, n) => Math.max(0, Math.min(n - 1, v));
    return table(size(height), size(width), (y, x) => {
      let sum = 0;
      for (let a = 0; a < k; a++) {
        for (let b = 0; b < k; b++) {
          const [py, px] = [y * stride - padding + a * dilation, x * stride - padding + b * dilation];
          const value = nearest ? rows[inside(py, height)][inside(px, width)] : rows[py]?.[px] ?? 0;
          sum += kernel[a][b] * value;
        }
      }
      return sum;
    });
  }

  // ---------------------------------------------------------------- drawing

  const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

  // Gray from black to white, or from purple over white to orange.
  function color(value, limit, palette) {
    if (!palette) {
      const gray = Math.round(255 * Math.max(0, Math.min(1, value / limit)));
      return [gray, gray, gray];
    }
    const middle = (palette.length - 1) / 2;
    const at = Math.round(middle + (limit ? (value / limit) * middle : 0));
    return palette[Math.max(0, Math.min(2 * middle, at))];
  }

  // A picture with a pixel for each value, as an address.
  function bitmap(rows, paint) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [rows[0].length, rows.length];
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    rows.flat().forEach((value, i) => image.data.set([...paint(value), 255], 4 * i));
    context.putImageData(image, 0, 0);
    return canvas.toDataURL();
  }

  // A figure, in hundredths of an inch from its left upper corner.
  class Drawing {
    constructor(width, height, alt) {
      Object.assign(this, { width, height, alt, parts: [] });
    }

    text(words, x, y, { size = 18, ink = "currentColor", weight = "normal" } = {}) {
      this.parts.push(
        `<text x="${x}" y="${y}" font-size="${size}" fill="${ink}" font-weight="${weight}" ` +
        `text-anchor="middle" dominant-baseline="central">${escaped(words)}</text>`,
      );
    }

    // Values as cells below a title; returns a function that frames a square of them.
    grid(rows, x, y, width, title, { limit, palette = null, numbers = false }) {
      const cell = width / Math.max(rows.length, rows[0].length);
      const most = limit || largest(rows) || 1;
      const [w, h] = [rows[0].length * cell, rows.length * cell];
      const address = bitmap(rows.map((row) => row.map((v) => v ?? 0)), (v) => color(v, most, palette));
      this.parts.push(
        `<image href="${address}" x="${x}" y="${y}" width="${w}" height="${h}" ` +
        'preserveAspectRatio="none" style="image-rendering:pixelated"/>',
        `<rect x="${x}" y="${y}" width="${width}" height="${width}" fill="none" stroke="currentColor"/>`,
      );
      this.text(title, x + width / 2, y - 14);
      rows.forEach((row, i) => row.forEach((value, j) => {
        const at = [x + j * cell, y + i * cell];
        if (value === null) {
          this.parts.push(
            `<rect x="${at[0]}" y="${at[1]}" width="${cell}" height="${cell}" class="cnnbook-own-blank"/>`,
          );
        } else if (numbers) {
          const words = inWords(value);
          const dark = palette ? Math.abs(value) > 0.6 * most : value < 0.5 * most;
          const size = words.length * 12 < cell ? 18 : 14;
          this.text(words, at[0] + cell / 2, at[1] + cell / 2, { size, ink: dark ? "#fff" : "#000" });
        }
      }));
      return (row, column, side, stroke) => this.parts.push(
        `<rect x="${x + column * cell}" y="${y + row * cell}" width="${side * cell}" ` +
        `height="${side * cell}" fill="none" stroke="${stroke}" stroke-width="3.3"/>`,
      );
    }

    toString() {
      return '<figure class="cnnbook-figure" style="margin:0">' +
        `<svg role="img" aria-label="${escaped(this.alt)}" viewBox="0 0 ${this.width} ${this.height}" ` +
        `style="width:100%;max-width:${0.96 * this.width}px;height:auto">${this.parts.join("")}</svg></figure>`;
    }
  }

  // ---------------------------------------------------------------- the two explorers

  // As cnnbook.widgets.sliding draws it.
  function slide(pixels, given, { kernel, stride, padding, dilation, position }) {
    const flat = pixels.flat();
    const [low, high] = [Math.min(...flat), Math.max(...flat)];
    const whole = pixels.map((row) => row.map((v) => Math.round((9 * (v - low)) / Math.max(high - low, 1e-6))));
    const side = given.side;
    const [top, left] = [whole.length, whole[0].length].map((n) => Math.floor((n - side) / 2));
    const weights = given.kernels[kernel];
    const settings = { stride: Number(stride), padding: Number(padding), dilation: Number(dilation) };
    const window = whole.slice(top, top + side).map((row) => row.slice(left, left + side));
    const output = convolved(window, weights, settings);
    const map = convolved(whole, weights, settings);
    const under = table(side + 2 * settings.padding, side + 2 * settings.padding,
      (y, x) => window[y - settings.padding]?.[x - settings.padding] ?? 0);
    const count = output.flat().length;
    const at = Math.min(Number(position), count) - 1;
    const [row, column] = [Math.floor(at / output[0].length), at % output[0].length];
    const [k, apart] = [weights.length, settings.dilation];
    const [y0, x0] = [row * settings.stride, column * settings.stride];
    const seen = table(k, k, (a, b) => under[y0 + a * apart][x0 + b * apart]);
    const products = table(k, k, (a, b) => seen[a][b] * weights[a][b]);
    const value = output[row][column];
    const signed = total(weights) < 1e-6;
    const palette = signed ? given.palette : null;
    const done = output.map((line, i) => line.map((v, j) => (i * line.length + j > at ? null : v)));

    const alt = SAY.convolved(at + 1, count, row + 1, column + 1, inWords(value));
    const drawing = new Drawing(580, 415, alt);
    const [edge, title, small, large, cell, gap] = [6, 30, 144, 202, 32, 25];
    const right = 580 - edge;
    const beside = right - 2 * large - 14;
    const [, orange, green] = given.colors;
    const white = 9 * total(weights);
    drawing.grid(whole, edge, title, small, SAY.image, { limit: 9 })(top, left, side, green);
    drawing.grid(map, edge, 415 - edge - small, small, SAY.map, { limit: signed ? 0 : white, palette });
    const frame = drawing.grid(under, beside, title, large, SAY.pixels(side, settings.padding),
      { limit: 9, numbers: true });
    if (settings.padding) frame(settings.padding, settings.padding, side, green);
    if (apart === 1) frame(y0, x0, k, orange);
    else table(k, k, (a, b) => frame(y0 + a * apart, x0 + b * apart, 1, orange));
    drawing.grid(done, right - large, title, large, SAY.output(output.length, output[0].length),
      { limit: signed ? largest(output) : white, palette, numbers: true })(row, column, 1, orange);
    const width = cell * Math.min(3, k);
    const y = title + large + 52;
    const x = [0, 1, 2, 3].map((i) => beside + i * (3 * cell + gap));
    drawing.grid(seen, x[0], y, width, SAY.parts[0], { limit: 9, numbers: true });
    [weights, products].forEach((rows, i) => drawing.grid(rows, x[i + 1], y, width, SAY.parts[i + 1],
      { limit: 2 * largest(rows), palette: given.palette, numbers: true }));
    ["×", "=", "="].forEach((sign, i) => drawing.text(sign, x[i] + width + gap / 2, y + width / 2));
    const last = (x[3] + right) / 2;
    drawing.text(SAY.sum, last, y - 14);
    drawing.text(inWords(value), last, y + width / 2, { size: 20, weight: "bold" });
    const terms = weights.flat().map((w, i) => [w, seen.flat()[i]]).filter(([w]) => w)
      .map(([w, p]) => `${w < 0 ? "−" : "+"} ${p}·${inWords(Math.abs(w))}`).join(" ").replace(/^\+ /, "");
    return { drawing, output, words: SAY.position(at + 1, count, terms, inWords(value)) };
  }

  // As cnnbook.widgets.filters draws it.
  function filter(pixels, given, { filter: name, times }) {
    const weights = given.kernels[name];
    const padding = Math.floor(weights.length / 2);
    let after = pixels;
    for (let i = 0; i < Number(times); i++) {
      after = convolved(after, weights, { padding, nearest: true });
    }
    // Differences are shown about a middle gray.
    const signed = Math.abs(total(weights)) < 1e-6;
    const limit = largest(after) || 1;
    const shown = signed ? after.map((row) => row.map((v) => 0.5 + v / limit / 2)) : after;
    const drawing = new Drawing(580, 240, SAY.filtered(name, Number(times)));
    drawing.grid(pixels, 6, 30, 204, SAY.before, { limit: 1 });
    const numbers = weights.length <= 5;
    drawing.grid(weights, 232, 74, 116, SAY.kernel, { limit: largest(weights), palette: given.palette, numbers });
    drawing.grid(shown, 370, 30, 204, SAY.after(signed), { limit: 1 });
    return { drawing, output: after, words: "" };
  }

  const DRAW = { convolution: slide, filters: filter };

  // ---------------------------------------------------------------- a file

  // The middle of a picture as rows of brightness from 0 to 1.
  async function read(file, height, width) {
    const address = URL.createObjectURL(file);
    try {
      const image = new Image();
      image.src = address;
      await image.decode();
      const scale = Math.min(image.naturalWidth / width, image.naturalHeight / height);
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [width, height];
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.fillStyle = "#fff"; // behind what is transparent
      context.fillRect(0, 0, width, height);
      context.imageSmoothingQuality = "high";
      context.drawImage(image, (image.naturalWidth - scale * width) / 2,
        (image.naturalHeight - scale * height) / 2, scale * width, scale * height, 0, 0, width, height);
      const { data } = context.getImageData(0, 0, width, height);
      return table(height, width, (y, x) => {
        const [red, green, blue] = data.subarray(4 * (y * width + x));
        return (0.299 * red + 0.587 * green + 0.114 * blue) / 255; // ITU-R BT.601
      });
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  // ---------------------------------------------------------------- the page

  const controls = (explorer) =>
    explorer.querySelectorAll(":scope > .widget-inline-hbox:not(.widget-html)");

  // What is chosen, by the names of the controls.
  function chosen(explorer) {
    const found = {};
    for (const control of controls(explorer)) {
      const select = control.querySelector("select");
      found[control.querySelector("label").textContent] = select
        ? select.selectedOptions[0].textContent.replaceAll("\u00a0", " ") // as the list has them
        : control.querySelector(".widget-readout, button.mod-active").textContent;
    }
    return found;
  }

  function element(kind, attributes, ...children) {
    const made = document.createElement(kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  window.cnnbookOwnPicture = (explorer) => {
    const given = JSON.parse(explorer.querySelector("[data-own]").dataset.own);
    const input = element("input", { type: "file", accept: "image/*" });
    const back = element("button", { type: "button", hidden: "" }, SAY.back);
    const hint = element("span", { class: "cnnbook-own-hint" }, SAY.drop);
    const status = element("p", { role: "status", class: "cnnbook-caption" });
    const shown = element("div", { "aria-live": "polite" });
    const row = element("div", { class: "cnnbook-control cnnbook-own-row" },
      element("label", {}, input, SAY.choose), hint, back);
    let pixels = null;
    let waiting = false;

    const draw = () => {
      waiting = false;
      explorer.classList.toggle("cnnbook-own-shown", pixels !== null);
      back.hidden = pixels === null;
      hint.hidden = !back.hidden;
      if (!pixels) return shown.replaceChildren();
      const { drawing, output, words } = DRAW[given.kind](pixels, given, { ...given.only, ...chosen(explorer) });
      shown.innerHTML = drawing;
      if (words) shown.append(element("p", { class: "cnnbook-caption" }, words));
      explorer.ownPicture = { pixels, output };
    };
    // The controls say what is chosen once they have drawn themselves.
    const later = () => {
      if (!waiting && pixels) requestAnimationFrame(draw);
      waiting = pixels !== null;
    };
    const take = async (file) => {
      if (!file) return;
      try {
        pixels = await read(file, ...given.size);
        status.textContent = SAY.taken(given.size[1], given.size[0]);
      } catch {
        status.textContent = SAY.failed(file.name);
      }
      draw();
    };
    input.addEventListener("change", () => take(input.files[0]));
    back.addEventListener("click", () => {
      pixels = null;
      input.value = status.textContent = "";
      draw();
      input.focus();
    });
    explorer.addEventListener("dragover", (event) => event.preventDefault());
    explorer.addEventListener("drop", (event) => {
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    });

    const picture = explorer.lastElementChild;
    explorer.querySelector("[data-own]").closest(".cnnbook-explorer > *").before(row);
    picture.before(status, shown);
    const changes = new MutationObserver(later);
    for (const control of controls(explorer)) {
      changes.observe(control, {
        attributeFilter: ["class"], characterData: true, childList: true, subtree: true,
      });
      control.addEventListener("change", later);
    }
  };
})();
