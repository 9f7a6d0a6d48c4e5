// The map that answers: draws cells, takes clicks and keys, explains.

const A = [1.340264, -0.081106, 0.000893, 0.003796];
const EXAMPLES = [["Alps", 46.5, 11.0], ["Taiga", 62.0, 100.0],
  ["Amazon", -4.0, -62.0], ["Appalachia", 37.0, -80.0],
  ["Congo", 1.0, 22.0], ["Japan", 36.0, 138.0], ["Tasmania", -42.0, 146.5]];
const ROOT3 = Math.sqrt(3), RAD = Math.PI / 180;
const WEST = -2.72, NORTH = 1.31, WIDE = 5.44, TALL = 2.35;

/** Equal Earth (Šavrič, Patterson and Jenny 2019). */
function project(lon, lat) {
  const t = Math.asin(ROOT3 / 2 * Math.sin(lat * RAD)), s = t * t;
  const slope = 9 * A[3] * s ** 4 + 7 * A[2] * s ** 3 + 3 * A[1] * s + A[0];
  return [2 * ROOT3 * lon * RAD * Math.cos(t) / (3 * slope),
    t * (A[0] + s * (A[1] + s * s * (A[2] + s * A[3])))];
}

function unproject(x, y) {
  let t = y;
  for (let turn = 0; turn < 12; turn++) {
    const s = t * t;
    t -= (t * (A[0] + s * (A[1] + s * s * (A[2] + s * A[3]))) - y)
      / (9 * A[3] * s ** 4 + 7 * A[2] * s ** 3 + 3 * A[1] * s + A[0]);
  }
  const s = t * t;
  const slope = 9 * A[3] * s ** 4 + 7 * A[2] * s ** 3 + 3 * A[1] * s + A[0];
  return [Math.asin(Math.max(-1, Math.min(1, 2 / ROOT3 * Math.sin(t)))) / RAD,
    x * 3 * slope / (2 * ROOT3 * Math.cos(t)) / RAD];
}

/** Packed answers, unpacked. */
function read(data) {
  const rows = part => ({ start: numbers(part.start, Uint32Array),
    species: numbers(part.species, Uint16Array),
    share: numbers(part.share, Uint16Array) });
  const found = { ...data, lat: numbers(data.lat, Float32Array),
    lon: numbers(data.lon, Float32Array),
    ndvi: numbers(data.ndvi, Int8Array),
    environment: numbers(data.environment, Float32Array),
    truth: numbers(data.truth, Int16Array),
    seen: rows(data.seen), prior: rows(data.prior) };
  found.xy = [...found.lat].map((lat, i) => project(found.lon[i], lat));
  return found;
}

/** Probabilities of a place as [class, share], and what the list left out. */
function shares(found, i, prior, checklist) {
  const from = prior ? found.prior : found.seen;
  const known = checklist && found.checklists[found.country[i]];
  let rows = [];
  for (let j = from.start[i]; j < from.start[i + 1]; j++)
    rows.push([from.species[j], from.share[j] / 65535]);
  if (!known) return rows;
  const kept = rows.filter(([k]) => known.includes(k));
  const total = kept.reduce((sum, row) => sum + row[1], 0);
  return total ? kept.map(([k, share]) => [k, share / total]) : rows;
}

/** Family → genus → species with bars, down to a rank. */
function tree(rows, found, rank) {
  const { classes, leafColors } = found, depth = RANKS.indexOf(rank);
  const level = (part, number) => {
    const list = node("ul");
    const order = rollUp(part, classes[RANKS[number]]);
    for (const [name, share] of order.slice(0, number < 2 ? 4 : 3)) {
      if (share < 0.02 && list.children.length) break;
      const inside = part.filter(([k]) => classes[RANKS[number]][k] === name);
      const color = leafColors[classes.leafType[inside[0][0]]] || "#8d8a83";
      list.append(node("li", {}, bar(name, share, color, number > 1),
        ...(number < depth ? [level(inside, number + 1)] : [])));
    }
    return list;
  };
  return level(rows, depth ? 1 : 0);
}

function nearest(found, lat, lon) {
  const far = i => {
    const east = ((found.lon[i] - lon + 540) % 360 - 180)
      * Math.cos(lat * RAD);
    return (found.lat[i] - lat) ** 2 + east ** 2;
  };
  let best = -1, least = Infinity;
  for (let i = 0; i < found.lat.length; i++) {
    const square = far(i);
    if (square < least) { least = square; best = i; }
  }
  return Math.sqrt(least) <= 2.5 ? best : -1;
}

function render({ model, el }) {
  const grid = model.get("data").lat && read(model.get("data"));
  const view = { x: 0, y: 0, zoom: 1 };
  const colors = new Map();
  let place = null, shown = null, cells = [];
  const on = (name, call) => model.on(`change:${name}`, call);
  const set = (name, value) => { model.set(name, value);
    model.save_changes(); };

  // --- controls -----------------------------------------------------------
  const choice = (name, text) => {
    const input = node("select", { onchange: () => set(name, input.value) },
      ...RANKS.map(rank => node("option", { value: rank,
        selected: rank === model.get(name) }, RANK_NAMES[rank])));
    on(name, () => { input.value = model.get(name); });
    return node("label", {}, `${text} `, input);
  };
  const box = (name, text) => {
    const input = node("input", { type: "checkbox",
      checked: model.get(name),
      onchange: () => set(name, input.checked) });
    on(name, () => { input.checked = model.get(name); });
    return node("label", {}, input, ` ${text}`);
  };
  const month = node("input", { type: "range", min: 1, max: 12,
    value: model.get("month"),
    oninput: () => set("month", Number(month.value)) });
  const controls = node("div", { className: "gt-controls" },
    ...(grid ? [choice("color", "Colour by")] : []),
    choice("rank", "Names down to"),
    node("label", {}, "Month ", month),
    box("prior", "use the place too"),
    box("checklist", "only species known from the country"));
  const jumps = node("div", { className: "gt-controls" }, "Try: ",
    ...EXAMPLES.map(([name, lat, lon]) =>
      node("button", { type: "button", onclick: () => look(lat, lon) },
        name)));

  // --- the map -----------------------------------------------------------
  const canvas = node("canvas", { tabIndex: 0, role: "application",
    className: "gt-canvas", "aria-label": "World map of answers. Arrow " +
      "keys move, Enter asks, plus and minus zoom." });
  const legend = node("div", { className: "gt-legend" });
  const zoomTo = factor => {
    view.zoom = Math.max(1, Math.min(12, view.zoom * factor));
    if (place) [view.x, view.y] = project(place[1], place[0]);
    draw();
  };
  const chart = node("div", { className: "gt-map" }, canvas, legend,
    node("div", { className: "gt-zoom" },
      node("button", { type: "button", "aria-label": "Zoom in",
        onclick: () => zoomTo(2) }, "+"),
      node("button", { type: "button", "aria-label": "Zoom out",
        onclick: () => zoomTo(0.5) }, "−")));
  const scale = () => view.zoom  // a canvas taller than the world crops it
    * Math.max(canvas.width / WIDE, canvas.height / TALL);
  const toScreen = ([x, y]) => [canvas.width / 2 + (x - view.x) * scale(),
    canvas.height / 2 - (y - view.y) * scale()];

  function recolor() {
    if (!grid) return;
    const level = model.get("color");
    const best = grid.xy.map((_, i) => rollUp(shares(grid, i,
      model.get("prior"), model.get("checklist")),
      grid.classes[level])[0] || ["", 0]);
    colors.clear();
    for (const [name, color] of palette(best.map(b => b[0]), grid))
      colors.set(name, color);
    cells = best.map(([name, share]) => [colors.get(name) || "#8d8a83",
      0.3 + 0.7 * share ** 1.5]);
    legend.replaceChildren(...[...colors].map(([name, color]) =>
      node("span", {}, node("i", { style: `background:${color}` }), name)));
  }

  function draw() {
    if (!grid || !canvas.clientWidth) return;
    canvas.width = canvas.clientWidth * (window.devicePixelRatio || 1);
    canvas.height = canvas.clientHeight * (window.devicePixelRatio || 1);
    const limit = (value, side, low, high) => {
      const half = Math.min(side / scale(), high - low) / 2;
      return Math.max(low + half, Math.min(high - half, value));
    };
    view.x = limit(view.x, canvas.width, WEST, WEST + WIDE);
    view.y = limit(view.y, canvas.height, NORTH - TALL, NORTH);
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#0a1722";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = "#1b2e38";
    pen.beginPath();
    for (const ring of land) ring.forEach((point, i) =>
      pen[i ? "lineTo" : "moveTo"](...toScreen(point)));
    pen.fill("evenodd");
    const half = grid.step * RAD / 2 * scale() * 0.86;
    grid.xy.forEach((point, i) => {
      const [x, y] = toScreen(point);
      const wide = half * Math.cos(grid.lat[i] * RAD) ** 0.35;
      [pen.fillStyle, pen.globalAlpha] = cells[i];
      pen.fillRect(x - wide, y - half, 2 * wide, 2 * half);
    });
    pen.globalAlpha = 1;
    if (!place) return;
    const [x, y] = toScreen(project(place[1], place[0]));
    pen.lineWidth = 2 * (window.devicePixelRatio || 1);
    for (const [color, radius] of [["#000", 11], ["#fff", 8]]) {
      pen.strokeStyle = color;
      pen.beginPath();
      pen.arc(x, y, radius * (window.devicePixelRatio || 1), 0, 7);
      pen.stroke();
    }
  }

  /** Bring the place into view, where it is not, and draw. */
  function follow() {
    const [x, y] = project(place[1], place[0]);
    if (Math.abs(x - view.x) * scale() > 0.48 * canvas.width) view.x = x;
    if (Math.abs(y - view.y) * scale() > 0.48 * canvas.height) view.y = y;
    draw();
  }

  const at = event => {
    const frame = canvas.getBoundingClientRect();
    const ratio = canvas.width / frame.width;
    return unproject(
      view.x + ((event.clientX - frame.left) * ratio - canvas.width / 2)
        / scale(),
      view.y - ((event.clientY - frame.top) * ratio - canvas.height / 2)
        / scale());
  };
  let grip = null;
  canvas.onpointerdown = event => { grip = [event.clientX, event.clientY, 0]; };
  canvas.onpointermove = event => {
    const whole = canvas.width / scale() > 0.99 * WIDE;
    if (!grip || whole) return;
    const [dx, dy] = [event.clientX - grip[0], event.clientY - grip[1]];
    const ratio = canvas.width / canvas.clientWidth / scale();
    view.x -= dx * ratio;
    view.y += dy * ratio;
    grip = [event.clientX, event.clientY,
      grip[2] + Math.abs(dx) + Math.abs(dy)];
    draw();
  };
  canvas.onpointercancel = canvas.onpointerleave = () => { grip = null; };
  canvas.onpointerup = event => {
    if (grip && grip[2] < 6) look(...at(event));
    grip = null;
  };
  canvas.onkeydown = event => {
    const move = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1],
      ArrowRight: [0, 1] }[event.key];
    const step = grid.step / (view.zoom > 2 ? 2 : 1);
    if (move) {
      place ||= [20, 0];
      place = [Math.max(-56, Math.min(83, place[0] + move[0] * step)),
        (place[1] + move[1] * step + 540) % 360 - 180];
      follow();
    } else if (event.key === "Enter" && place) look(...place);
    else if ("+=".includes(event.key)) zoomTo(2);
    else if (event.key === "-") zoomTo(0.5);
    else return;
    event.preventDefault();
  };

  // --- the answer --------------------------------------------------------
  const headline = node("p", { role: "status", className: "gt-headline" },
    "Choose a place on the map.");
  const body = node("div", { className: "gt-body" });

  function look(lat, lon) {
    if (Math.abs(lat) > 90 || Math.abs(lon) > 180) return;
    place = [lat, lon];
    const near = grid ? nearest(grid, lat, lon) : -1;
    shown = near < 0 ? null : [grid, near];
    set("place", [lat, lon]);
    follow();
    explain(grid && near < 0);
  }

  async function explain(empty) {
    month.value = model.get("month");
    if (!shown) {
      if (empty) headline.textContent = `${degrees(...place)}: no tree is ` +
        "known here. It is sea, ice, desert, or beyond the grid.";
      if (empty) body.replaceChildren();
      return;
    }
    const [found, i] = shown;
    const rows = shares(found, i, model.get("prior"),
      model.get("checklist"));
    const image = await picture(found.atlas);
    const ndvi = found.ndvi.subarray(12 * i, 12 * i + 12);
    const where = [degrees(found.lat[i], found.lon[i]),
      country(found.country[i])].filter(Boolean).join(", ");
    headline.replaceChildren(`${where}: `, ...verdict(rows, found.classes,
      model.get("threshold")));
    const chosen = model.get("month") - 1;
    const facts = node("dl", {}, ...found.variables.flatMap(
      ([title, unit], v) => {
        const value = found.environment[i * found.variables.length + v];
        return [node("dt", {}, title), node("dd", {}, Number.isNaN(value)
          ? "missing" : `${+value.toPrecision(3)} ${unit}`)];
      }));
    const truth = found.truth[i] < 0 ? []
      : [node("p", { className: "gt-truth" }, "Rendered here: ",
        node("em", {}, found.classes.species[found.truth[i]]), ", ",
        found.classes.family[found.truth[i]], ".")];
    body.replaceChildren(
      node("section", { "aria-label": "Likeliest names" },
        tree(rows, found, model.get("rank")), ...truth),
      node("section", { "aria-label": "The year in pixels, and the place" },
        strip(image, i, ndvi, chosen, m => set("month", m + 1)),
        curves([{ ndvi, color: "#009E73" }], chosen),
        node("p", { className: "gt-note" }, MONTHS[chosen] +
          (ndvi[chosen] === -128 ? ": hidden by cloud."
            : `: NDVI ${(ndvi[chosen] / 100).toFixed(2)}.`)), facts,
        node("p", { className: "gt-note" }, found.note)));
  }

  // --- together ----------------------------------------------------------
  const land = [];
  if (grid) {
    const { sizes, points } = model.get("outline");
    const flat = numbers(points, Int16Array);
    let next = 0;
    for (const size of sizes) {
      land.push(Array.from({ length: size }, (_, i) => project(
        flat[2 * (next + i)] / 100, flat[2 * (next + i) + 1] / 100)));
      next += size;
    }
  }
  own(el);
  el.append(...(grid ? [chart, jumps] : []), controls, headline, body);
  for (const name of ["color", "prior", "checklist"])
    on(name, () => { recolor(); draw(); explain(); });
  for (const name of ["month", "rank"]) on(name, () => explain());
  on("answer", () => {
    const answer = model.get("answer");
    if (answer.message) {
      shown = null;
      headline.textContent = answer.message;
      body.replaceChildren();
      return;
    }
    const found = read(answer);
    shown = [found, 0];
    place = [found.lat[0], found.lon[0]];
    draw();
    explain();
  });
  recolor();
  const watch = new ResizeObserver(draw);
  watch.observe(chart);
  if (model.get("place")?.length) look(...model.get("place"));
  return () => watch.disconnect();
}

export default { render };
