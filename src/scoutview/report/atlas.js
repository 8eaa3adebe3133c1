"use strict";
// The map, the neighbours of an image, and the list of what to leave out. Text is only ever set as text.

// Numbers of a kind from base64.
function unpack(base64, Kind) {
  return new Kind(Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0)).buffer);
}

// The shown point nearest to (x, y) and no farther than reach, or -1.
function pointAt(xs, ys, x, y, reach, isShown) {
  let best = -1;
  let least = reach * reach;
  for (let i = 0; i < xs.length; i++) {
    const distance = (xs[i] - x) ** 2 + (ys[i] - y) ** 2;
    if (distance <= least && isShown(i)) {
      best = i;
      least = distance;
    }
  }
  return best;
}

// The nearest shown point within 45 degrees of a direction along one axis; `from` where there is none.
function pointTowards(xs, ys, from, right, down, isShown) {
  let best = from;
  let least = Infinity;
  for (let i = 0; i < xs.length; i++) {
    const x = xs[i] - xs[from];
    const y = ys[i] - ys[from];
    const along = x * right + y * down;
    const across = Math.abs(right ? y : x);
    const distance = along * along + across * across;
    if (along > 0 && across <= along && distance < least && isShown(i)) {
      best = i;
      least = distance;
    }
  }
  return best;
}

// SHA-256 number i as hex digits.
function hexOf(bytes, i) {
  return Array.from(bytes.subarray(32 * i, 32 * i + 32), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The list that scoutview ingest --exclude takes.
function listOf(images, bytes, names) {
  const lines = images.map((i) => hexOf(bytes, i) + "," + names[i]);
  return ["pixel_sha256,image", ...lines].join("\n") + "\n";
}

// What is known of image i, one line each.
function factsOf(columns, i, other, unknown) {
  return columns
    .filter((column) => column.codes[i] !== unknown)
    .map((column) => column.name + ": " + (column.codes[i] === other ? "another value" : column.values[column.codes[i]]));
}

function start() {
  const OTHER = 254;
  const UNKNOWN = 255;
  const REACH = 14; // px around the pointer
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const xs = unpack(data.x, Uint16Array);
  const ys = unpack(data.y, Uint16Array);
  const neighbours = unpack(data.neighbours, Uint32Array);
  const cosines = unpack(data.cosines, Int16Array);
  const pixels = unpack(data.pixels, Uint8Array);
  const hidden = new Set(data.hidden);
  const columns = data.columns.map((column) => ({ ...column, codes: unpack(column.codes, Uint8Array) }));
  const canvas = find("canvas");
  const pen = canvas.getContext("2d");
  const dialog = find("dialog");
  const tip = find("tip");
  const boxes = [...document.querySelectorAll("input[type=checkbox][data-image]")];
  const selected = new Set(boxes.filter((box) => box.checked).map((box) => Number(box.dataset.image)));
  let column = columns[0];
  let off = new Set();
  let current = -1;
  let opened = -1;

  const isShown = (i) => !off.has(legendCode(i));
  const wordsOf = (i) => [
    "image " + data.images[i] + (hidden.has(i) ? " (not shown)" : ""),
    ...factsOf(columns, i, OTHER, UNKNOWN),
  ];

  // Values without a colour of their own stand together in the legend.
  function legendCode(i) {
    const code = column.codes[i];
    return code !== UNKNOWN && code >= column.inks.length ? OTHER : code;
  }

  function inkOf(code) {
    return code === UNKNOWN ? "--grid" : code === OTHER ? "--quiet" : "--" + column.inks[code];
  }

  function setPicture(element, i) {
    element.className = "cell s" + Math.floor(i / data.sheet);
    element.style.setProperty("--x", (i % data.sheet) % data.across);
    element.style.setProperty("--y", Math.floor((i % data.sheet) / data.across));
  }

  function cellOf(i, words, first) {
    const button = document.createElement("button");
    button.type = "button";
    setPicture(button, i);
    button.dataset.image = i;
    button.setAttribute("aria-label", words);
    button.title = words;
    button.tabIndex = first ? 0 : -1;
    return button;
  }

  // Places on the map in px of the page: a square in the middle of the canvas.
  function frame() {
    const margin = 12;
    const side = Math.min(canvas.clientWidth, canvas.clientHeight) - 2 * margin;
    return { side, left: (canvas.clientWidth - side) / 2, top: (canvas.clientHeight - side) / 2 };
  }

  function draw() {
    const scale = window.devicePixelRatio || 1;
    const { side, left, top } = frame();
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    const style = getComputedStyle(document.documentElement);
    const size = xs.length > 5000 ? 2 : xs.length > 500 ? 3 : 5;
    const places = new Map();
    for (let i = 0; i < xs.length; i++) {
      const code = legendCode(i);
      if (!places.has(code)) places.set(code, []);
      places.get(code).push(i);
    }
    for (const code of [...places.keys()].sort((a, b) => b - a)) {
      if (off.has(code)) continue;
      pen.fillStyle = style.getPropertyValue(inkOf(code)).trim();
      for (const i of places.get(code)) {
        pen.fillRect(left + (xs[i] / 65535) * side - size / 2, top + (ys[i] / 65535) * side - size / 2, size, size);
      }
    }
    if (current >= 0) {
      pen.strokeStyle = style.getPropertyValue("--ink").trim();
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(left + (xs[current] / 65535) * side, top + (ys[current] / 65535) * side, 8, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  function drawLegend() {
    const counts = new Map();
    for (let i = 0; i < xs.length; i++) counts.set(legendCode(i), (counts.get(legendCode(i)) || 0) + 1);
    const entries = [...counts.keys()].sort((a, b) => a - b).map((code) => {
      const button = document.createElement("button");
      button.type = "button";
      const name = code === UNKNOWN ? "not known" : code === OTHER ? "other values" : column.values[code];
      button.textContent = name + " (" + counts.get(code).toLocaleString("en") + ")";
      button.style.setProperty("--of", "var(" + inkOf(code) + ")");
      button.setAttribute("aria-pressed", String(!off.has(code)));
      button.addEventListener("click", () => {
        if (off.has(code)) off.delete(code);
        else off.add(code);
        button.setAttribute("aria-pressed", String(!off.has(code)));
        if (current >= 0 && !isShown(current)) choose(-1);
        draw();
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    find("legend").replaceChildren(...entries);
  }

  function showTip(i, x, y) {
    tip.hidden = i < 0;
    if (i < 0) return;
    setPicture(tip.firstElementChild, i);
    find("tip-words").textContent = wordsOf(i).join("\n");
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 16, window.innerWidth - box.width - 4)) + "px";
    tip.style.top = Math.max(4, Math.min(y + 16, window.innerHeight - box.height - 4)) + "px";
  }

  function choose(i) {
    current = i;
    draw();
    find("told").textContent = i < 0 ? "" : wordsOf(i).join(", ");
    const { side, left, top } = frame();
    const box = canvas.getBoundingClientRect();
    if (i < 0) showTip(-1, 0, 0);
    else showTip(i, box.left + left + (xs[i] / 65535) * side, box.top + top + (ys[i] / 65535) * side);
  }

  function open(i) {
    opened = i;
    showTip(-1, 0, 0);
    find("dialog-title").textContent = "Image " + data.images[i];
    find("dialog-facts").textContent = wordsOf(i).slice(1).join("\n");
    find("dialog-leave").checked = selected.has(i);
    find("dialog-image").replaceChildren(cellOf(i, wordsOf(i).join(", "), true));
    const near = [];
    for (let place = i * data.width; place < (i + 1) * data.width; place++) {
      const words = "cosine " + (cosines[place] / 10000).toFixed(3) + ", " + wordsOf(neighbours[place]).join(", ");
      near.push(cellOf(neighbours[place], words, near.length === 0));
    }
    find("dialog-neighbours").replaceChildren(...near);
    if (!dialog.open) dialog.showModal();
    (near[0] || find("close")).focus();
  }

  function select(i, wanted) {
    if (wanted) selected.add(i);
    else selected.delete(i);
    boxes.filter((box) => Number(box.dataset.image) === i).forEach((box) => (box.checked = wanted));
    tell();
  }

  function tell() {
    const words = selected.size.toLocaleString("en") + " selected on this page";
    document.querySelectorAll(".selected").forEach((element) => (element.textContent = words));
  }

  function save() {
    const images = [...selected].sort((a, b) => a - b);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([listOf(images, pixels, data.images)], { type: "text/csv" }));
    link.download = "exclude.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function pointUnder(event) {
    const { side, left, top } = frame();
    const box = canvas.getBoundingClientRect();
    const scale = 65535 / side;
    const x = (event.clientX - box.left - left) * scale;
    const y = (event.clientY - box.top - top) * scale;
    return pointAt(xs, ys, x, y, REACH * scale, isShown);
  }

  canvas.addEventListener("pointermove", (event) => showTip(pointUnder(event), event.clientX, event.clientY));
  canvas.addEventListener("pointerleave", () => showTip(-1, 0, 0));
  canvas.addEventListener("click", (event) => {
    const i = pointUnder(event);
    choose(i);
    if (i >= 0) open(i);
  });
  canvas.addEventListener("blur", () => showTip(-1, 0, 0));
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      event.preventDefault();
      choose(
        current < 0
          ? pointAt(xs, ys, 32768, 32768, Infinity, isShown)
          : pointTowards(xs, ys, current, ...steps[event.key], isShown)
      );
    } else if (event.key === "Enter" && current >= 0) {
      open(current);
    } else if (event.key === "Escape") {
      choose(-1);
    }
  });

  // Among small pictures left and right go along a row, up and down to the next one.
  document.addEventListener("keydown", (event) => {
    const cell = event.target.closest("button.cell");
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!cell || !step) return;
    event.preventDefault();
    const row = cell.closest(".cells");
    const place = [...row.children].indexOf(cell);
    let next = row.children[place + step];
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const rows = [...(cell.closest("dialog") || document.querySelector("main")).querySelectorAll(".cells")];
      const other = rows[rows.indexOf(row) + step];
      next = other && other.children[Math.min(place, other.children.length - 1)];
    }
    if (next) next.focus();
  });
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("button.cell");
    if (cell && Number(cell.dataset.image) !== opened) open(Number(cell.dataset.image));
  });
  document.querySelector("main").addEventListener("pointerover", (event) => {
    const cell = event.target.closest("button.cell");
    if (cell) showTip(Number(cell.dataset.image), event.clientX, event.clientY);
    else if (event.target !== canvas) showTip(-1, 0, 0);
  });
  dialog.addEventListener("close", () => (opened = -1));
  find("dialog-leave").addEventListener("change", (event) => select(opened, event.target.checked));
  boxes.forEach((box) => box.addEventListener("change", () => select(Number(box.dataset.image), box.checked)));
  document.querySelectorAll("button[data-list]").forEach((button) =>
    button.addEventListener("click", () =>
      boxes
        .filter((box) => box.closest("#" + button.dataset.list + "-list"))
        .forEach((box) => select(Number(box.dataset.image), Boolean(button.dataset.select)))
    )
  );
  document.querySelectorAll(".save").forEach((button) => button.addEventListener("click", save));
  columns.forEach((each, number) => find("colour").append(new Option(each.name, number)));
  find("colour").addEventListener("change", (event) => {
    column = columns[event.target.value];
    off = new Set();
    drawLegend();
    draw();
  });
  document.querySelectorAll(".choose, #plane").forEach((element) => (element.hidden = false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("resize", draw);
  tell();
  drawLegend();
  draw();
}

if (typeof document !== "undefined") start();
