// Small tools that all widgets of geotree.explore share.
const MONTHS = ["January", "February", "March", "April", "May", "June",
  "July", "August", "September", "October", "November", "December"];
const RANKS = ["leafType", "family", "genus", "species"];
const RANK_NAMES = { leafType: "leaf type", family: "family",
  genus: "genus", species: "species" };

/** An element with properties, attributes and children. */
function node(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** The element of a widget; JupyterLab leaves the arrow keys to it. */
function own(el, ...names) {
  el.classList.add("gt", ...names);
  el.addEventListener("focusin", event => event.target.setAttribute(
    "data-lm-suppress-shortcuts", "true"));
}

/** Bytes from a kernel or a page as numbers of a type. */
function numbers(view, Type) {
  if (!view) return new Type(0);
  const start = view.byteOffset;
  return new Type(view.buffer.slice(start, start + view.byteLength));
}

const percent = share => share > 0.995 && share < 1 ? "> 99 %"
  : `${Math.round(100 * share)} %`;

function degrees(lat, lon) {
  const one = (x, plus, minus) =>
    `${Math.abs(x).toFixed(1)}° ${x < 0 ? minus : plus}`;
  return `${one(lat, "N", "S")}, ${one(lon, "E", "W")}`;
}

const COUNTRIES = new Intl.DisplayNames(["en"], { type: "region" });
function country(code) {
  try { return code ? COUNTRIES.of(code) : ""; } catch { return code; }
}

/** A colour for each of the most frequent names; leaf types keep theirs. */
function palette(names, data) {
  const counts = new Map();
  for (const name of names)
    if (name) counts.set(name, (counts.get(name) || 0) + 1);
  const top = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return new Map(top.slice(0, data.cycle.length).map(
    ([name], i) => [name, data.leafColors[name] || data.cycle[i]]));
}

const loading = new WeakMap();
/** The image of a PNG, decoded once. */
function picture(bytes) {
  if (!loading.has(bytes))
    loading.set(bytes, createImageBitmap(new Blob([bytes],
      { type: "image/png" })));
  return loading.get(bytes);
}

/** Draw patch `number` of an atlas of 5 × 5 pixels onto a canvas. */
function patch(canvas, image, number, across) {
  const pen = canvas.getContext("2d");
  pen.drawImage(image, (number % across) * 5,
    Math.floor(number / across) * 5, 5, 5, 0, 0, 5, 5);
}

/** Twelve months in true colour; buttons where one can be chosen. */
function strip(image, sample, ndvi, chosen, choose) {
  const row = node("div", { className: "gt-strip", role: "group",
    "aria-label": "True colour by month" });
  MONTHS.forEach((month, i) => {
    const seen = ndvi[i] !== -128;
    const tile = node("canvas", { width: 5, height: 5 });
    if (seen) patch(tile, image, sample * 12 + i, 96);
    const says = seen ? `${month}, NDVI ${(ndvi[i] / 100).toFixed(2)}`
      : `${month}, not seen`;
    row.append(choose
      ? node("button", { type: "button", className: seen ? "" : "gt-gap",
        "aria-pressed": String(i === chosen), "aria-label": says,
        title: month, onclick: () => choose(i) },
      tile, node("span", {}, month[0]))
      : node("div", { className: seen ? "" : "gt-gap", title: says }, tile,
        node("span", {}, month[0])));
  });
  return row;
}

/** NDVI curves below a strip; each is {ndvi, color, low, high}. */
function curves(lines, chosen = -1) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const range = lines.map(({ ndvi }) => [...ndvi].filter(v => v !== -128))
    .flat();
  svg.setAttribute("viewBox", "0 0 120 44");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("class", "gt-curve");
  svg.setAttribute("aria-label", range.length
    ? `NDVI by month, ${(Math.min(...range) / 100).toFixed(2)} to ` +
      (Math.max(...range) / 100).toFixed(2) : "No month was seen");
  const add = (tag, attributes) => {
    const part = document.createElementNS(svg.namespaceURI, tag);
    for (const key in attributes) part.setAttribute(key, attributes[key]);
    svg.append(part);
  };
  const y = value => 42 - 0.4 * Math.max(0, Math.min(100, value));
  add("path", { d: "M0 42H120M0 22H120M0 2H120", class: "gt-grid" });
  if (chosen >= 0)
    add("path", { d: `M${10 * chosen + 5} 0V44`, class: "gt-now" });
  for (const { ndvi, color, low, high } of lines) {
    const seen = [...ndvi.keys()].filter(i => ndvi[i] !== -128);
    if (low && seen.length) add("path", { style: `fill:${color}`, class: "gt-band", d: "M" + [
      ...seen.map(i => `${10 * i + 5} ${y(high[i])}`),
      ...seen.reverse().map(i => `${10 * i + 5} ${y(low[i])}`)].join("L")
      + "Z" });
    seen.sort((a, b) => a - b);
    if (seen.length) add("path", { stroke: color, class: "gt-line",
      d: "M" + seen.map(i => `${10 * i + 5} ${y(ndvi[i])}`).join("L") });
  }
  return node("div", { className: "gt-plot" }, svg,
    node("span", { className: "gt-scale" }, "NDVI 1"),
    node("span", { className: "gt-scale gt-zero" }, "0"));
}

/** A row of a ranking: a name, a bar and a share. */
function bar(name, share, color, italic) {
  return node("div", { className: "gt-bar" },
    node(italic ? "em" : "span", {}, name),
    node("span", { className: "gt-track" }, node("span", {
      style: `width:${100 * share}%;background:${color}` })),
    node("span", { className: "gt-share" }, percent(share)));
}

/** Summed to the names of a rank, likeliest first. */
function rollUp(rows, names) {
  const sums = new Map();
  for (const [k, share] of rows)
    sums.set(names[k], (sums.get(names[k]) || 0) + share);
  return [...sums].sort((a, b) => b[1] - a[1]);
}

/** One plain sentence: as deep as it is sure, and no deeper. */
function verdict(rows, classes, threshold) {
  const best = RANKS.map(rank => [rank, ...rollUp(rows, classes[rank])[0]]);
  const sure = best.findLastIndex(([, , share]) => share >= threshold);
  const maybe = best[sure + 1];
  const said = [];
  if (sure >= 0) {
    const [rank, name, share] = best[sure];
    said.push(node("strong", {}, name),
      ` (${RANK_NAMES[rank]}), ${percent(share)} sure. `);
  }
  if (maybe) said.push(sure < 0 ? "Unsure at every rank: "
    : "Unsure below this rank: ",
    `the likeliest ${RANK_NAMES[maybe[0]]}, ${maybe[1]}, has ` +
    `${percent(maybe[2])}.`);
  return said;
}
