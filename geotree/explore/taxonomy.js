// Family → genus → species with counts; years of a few side by side.

function render({ model, el }) {
  const data = model.get("data"), { classes } = data;
  const counts = numbers(data.counts, Uint32Array);
  const [middle, low, high] = ["ndvi", "low", "high"].map(name =>
    numbers(data[name], Int8Array));
  const year = (part, k) => part.subarray(12 * k, 12 * k + 12);
  const chosen = () => model.get("chosen");
  const buttons = new Map();

  const side = node("section", { "aria-live": "polite",
    "aria-label": "The chosen species" });
  async function compare() {
    const image = await picture(data.atlas);
    const picked = chosen();
    for (const [k, button] of buttons)
      button.setAttribute("aria-pressed", String(picked.includes(k)));
    const color = k => data.cycle[picked.indexOf(k)];
    side.replaceChildren(
      ...(picked.length ? [curves(picked.map(k => ({ color: color(k),
        ndvi: year(middle, k), low: year(low, k), high: year(high, k) })))]
        : [node("p", {}, "Choose up to four species.")]),
      ...picked.map(k => node("div", {},
        node("p", {}, node("i", { className: "gt-dot",
          style: `background:${color(k)}` }),
        node("em", {}, classes.species[k]), `, ${classes.leafType[k]}, ` +
          `${counts[k].toLocaleString("en")} records`),
        strip(image, k, numbers(data.seen, Int8Array).subarray(12 * k,
          12 * k + 12)))),
      node("p", { className: "gt-note" }, "Line: median NDVI of the " +
        "species, months of the local year; band: middle half. Patches: " +
        "one record. ", data.note));
  }
  const choose = k => {
    const rest = chosen().filter(other => other !== k);
    model.set("chosen", rest.length < chosen().length ? rest
      : [...rest, k].slice(-4));
    model.save_changes();
    compare();
  };

  const group = (members, rank) => {
    const names = [...new Set(members.map(k => classes[rank][k]))];
    const total = part => part.reduce((sum, k) => sum + counts[k], 0);
    const parts = names.map(name => [name,
      members.filter(k => classes[rank][k] === name)]);
    parts.sort((a, b) => total(b[1]) - total(a[1]));
    return node("ul", {}, ...parts.map(([name, part]) => {
      const count = node("span", { className: "gt-share" },
        total(part).toLocaleString("en"));
      if (rank === "species") {
        const button = node("button", { type: "button",
          onclick: () => choose(part[0]) }, node("em", {}, name));
        buttons.set(part[0], button);
        return node("li", { className: "gt-leaf" }, button, count);
      }
      const next = RANKS[RANKS.indexOf(rank) + 1];
      return node("li", {}, node("details", {},
        node("summary", {}, node(rank === "genus" ? "em" : "span", {}, name),
          ` (${part.length}) `, count), group(part, next)));
    }));
  };
  const everything = [...counts.keys()];
  const search = node("input", { type: "search",
    "aria-label": "Find a name", placeholder: "Find a name",
    oninput: () => {
      const word = search.value.trim().toLowerCase();
      for (const [k, button] of buttons) button.parentNode.hidden = !RANKS
        .some(rank => classes[rank][k].toLowerCase().includes(word));
      for (const part of el.querySelectorAll("details")) {
        part.parentNode.hidden = !part.querySelector(
          ".gt-leaf:not([hidden])");
        part.open = Boolean(word) && !part.parentNode.hidden;
      }
    } });
  own(el, "gt-taxa");
  el.append(node("div", { className: "gt-body" },
    node("section", { "aria-label": "Families, genera and species" }, search,
      node("div", { className: "gt-tree", tabIndex: 0 },
        group(everything, "family"))), side));
  model.on("change:chosen", compare);
  compare();
}

export default { render };
