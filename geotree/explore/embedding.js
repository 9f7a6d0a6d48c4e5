// Points of a t-SNE map: hover or step through them with the arrow keys.

function render({ model, el }) {
  const data = model.get("data"), { classes } = data;
  const [xs, ys, lat, lon] = ["x", "y", "lat", "lon"].map(name =>
    numbers(data[name], Float32Array));
  const label = numbers(data.label, Uint16Array);
  const name = (i, rank) => classes[rank][label[i]];
  let colors = new Map(), here = -1, only = null;

  const canvas = node("canvas", { tabIndex: 0, role: "application",
    className: "gt-points", "aria-label": "t-SNE map of samples. Arrow " +
      "keys step from point to point." });
  const about = node("div", { role: "status", className: "gt-about" },
    "Hover over a point, or use the arrow keys.");
  const legend = node("div", { className: "gt-controls" });
  const rank = node("select", { onchange: () => {
    model.set("color", rank.value);
    model.save_changes();
  } }, ...RANKS.map(value => node("option", { value,
    selected: value === model.get("color") }, RANK_NAMES[value])));

  const bounds = part => [Math.min(...part), Math.max(...part)];
  const [[left, right], [low, top]] = [bounds(xs), bounds(ys)];
  const at = i => [
    14 + (canvas.width - 28) * (xs[i] - left) / (right - left || 1),
    14 + (canvas.height - 28) * (top - ys[i]) / (top - low || 1)];

  function draw() {
    if (!canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    const pen = canvas.getContext("2d"), level = model.get("color");
    const dot = (i, radius) => {
      pen.beginPath();
      pen.arc(...at(i), radius * ratio, 0, 7);
      pen.fill();
    };
    for (let i = 0; i < xs.length; i++) {
      const one = name(i, level);
      pen.globalAlpha = only && only !== one ? 0.12 : 0.85;
      pen.fillStyle = colors.get(one) || "#8d8a83";
      dot(i, colors.has(one) ? 3.2 : 2.2);
    }
    pen.globalAlpha = 1;
    if (here < 0) return;
    pen.fillStyle = getComputedStyle(el).color;
    dot(here, 8);
    pen.fillStyle = colors.get(name(here, level)) || "#8d8a83";
    dot(here, 6);
  }

  function recolor() {
    const level = model.get("color");
    colors = palette([...label].map(k => classes[level][k]), data);
    only = null;
    legend.replaceChildren(node("label", {}, "Colour by ", rank),
      ...[...colors].map(([one, color]) => node("button", { type: "button",
        "aria-pressed": "false", onclick: event => {
          only = only === one ? null : one;
          for (const button of legend.querySelectorAll("button"))
            button.setAttribute("aria-pressed", String(
              button === event.currentTarget && only !== null));
          draw();
        } }, node("i", { className: "gt-dot",
        style: `background:${color}` }), one)));
    draw();
  }

  async function show(i) {
    if (i < 0 || i === here) return;
    here = i;
    draw();
    const tile = node("canvas", { width: 5, height: 5 });
    patch(tile, await picture(data.atlas), i, 8);
    if (i === here) about.replaceChildren(tile, node("div", {},
      node("em", {}, name(i, "species")), `, ${name(i, "family")}`,
      node("br"), `${name(i, "leafType")}, ${degrees(lat[i], lon[i])}`));
  }

  /** The closest point in screen distance, in a direction if one is given. */
  function closest([x, y], [dx, dy] = [0, 0]) {
    let best = -1, least = Infinity;
    for (let i = 0; i < xs.length; i++) {
      const [px, py] = at(i), [ex, ey] = [px - x, py - y];
      const along = ex * dx + ey * dy, off = Math.abs(ex * dy) +
        Math.abs(ey * dx);
      if ((dx || dy) && (along <= 0 || off > along)) continue;
      const far = ex * ex + ey * ey;
      if (far < least && i !== (dx || dy ? here : -1)) [best, least] = [i,
        far];
    }
    return best;
  }
  canvas.onpointermove = canvas.onpointerdown = event => {
    const frame = canvas.getBoundingClientRect();
    const ratio = canvas.width / frame.width;
    show(closest([(event.clientX - frame.left) * ratio,
      (event.clientY - frame.top) * ratio]));
  };
  canvas.onkeydown = event => {
    const move = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0],
      ArrowRight: [1, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    show(here < 0 ? closest([canvas.width / 2, canvas.height / 2])
      : closest(at(here), move));
  };

  own(el);
  el.append(legend, canvas, about,
    node("p", { className: "gt-note" }, data.note));
  model.on("change:color", () => {
    rank.value = model.get("color");
    recolor();
  });
  const watch = new ResizeObserver(draw);
  watch.observe(canvas);
  recolor();
  return () => watch.disconnect();
}

export default { render };
