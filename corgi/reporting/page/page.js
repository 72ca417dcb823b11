// The page's table, cards and comparison. Data come as JSON in the page; all text is written as text.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const at = Object.fromEntries(data.columns.map((name, place) => [name, place]));
const byId = (id) => document.getElementById(id);
const PAGE = 100; // rows shown at once
const PRINTED = 1000; // rows printed at most

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// --- table: columns, filter, sort, pages

const numberOf = (text) => (text === null ? null : Number(text));
const COLUMNS = [
  { name: "run", title: "Run", value: (row) => row[at.run], text: (row) => String(row[at.run] + 1) },
  { name: "image", title: "Image", value: (row) => row[at.image] },
  { name: "trueClass", title: "Shows", value: (row) => row[at.trueClass], minor: true },
  { name: "class", title: "Class", value: (row) => data.classes[row[at.class]], minor: true },
  { name: "status", title: "Status", value: (row) => row[at.status].replace("_", " ") },
  { name: "certified", title: "Certified", value: (row) => numberOf(row[at.certified]), text: (row) => row[at.certified] },
  { name: "joint", title: "With label", value: (row) => numberOf(row[at.joint]), text: (row) => row[at.joint], minor: true },
  { name: "broken", title: data.changes.every((change) => change === null) ? "Attack" : "Broken at", value: (row) => numberOf(row[at.broken]), text: (row) => row[at.broken] },
  { name: "ratio", title: "Ratio", value: (row) => numberOf(row[at.ratio]), text: (row) => row[at.ratio] },
  { name: "seconds", title: "Seconds", value: (row) => row[at.seconds], minor: true },
].filter(({ name }) => {
  if (name === "run") return data.runs.length > 1;
  return !["trueClass", "joint", "ratio"].includes(name) || data.rows.some((row) => row[at[name]] !== null);
});
const NUMBERS = ["certified", "joint", "broken", "ratio", "seconds"];
const GOOD = ["certified", "proved"];
const BAD = ["refuted", "failed", "crashed"];

const sought = data.rows.map((row) =>
  [row[at.image], row[at.trueClass], data.classes[row[at.class]], row[at.status].replace("_", " "), row[at.reason]]
    .join(" ").toLowerCase());
const order = new Intl.Collator("en", { numeric: true });
const state = { sort: "", down: false, page: 0, shown: data.rows.map((_, place) => place), open: -1 };

/** Places of the rows that pass the filters, sorted; rows without a value come last either way. */
function select() {
  const words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const run = byId("of-run")?.value ?? "";
  const [ofClass, status] = [byId("of-class").value, byId("of-status").value];
  const from = Number.parseFloat(byId("from").value);
  const to = Number.parseFloat(byId("to").value);
  const places = [];
  data.rows.forEach((row, place) => {
    const certified = Number(row[at.certified] ?? 0);
    if ((run === "" || row[at.run] === Number(run))
      && (ofClass === "" || row[at.class] === Number(ofClass))
      && (status === "" || row[at.status] === status)
      && !(certified < from) && !(certified > to)
      && words.every((word) => sought[place].includes(word))) places.push(place);
  });
  const column = COLUMNS.find(({ name }) => name === state.sort);
  if (column) {
    const values = new Map(places.map((place) => [place, column.value(data.rows[place])]));
    const sign = state.down ? -1 : 1;
    places.sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "number" ? x - y : order.compare(x, y));
    });
  }
  state.shown = places;
}

function refresh() {
  select();
  state.page = 0;
  draw();
}

function tableRow(place) {
  const row = data.rows[place];
  const cells = COLUMNS.map(({ name, value, text, minor }) => {
    const classes = [minor ? "minor" : "", NUMBERS.includes(name) ? "number" : ""].join(" ").trim();
    const shown = String((text ?? value)(row) ?? "-");
    const cell = make("td", { class: classes || null });
    if (name === "image") {
      cell.append(make("button", { type: "button", class: "name", "data-place": place }, shown));
    } else if (name === "status") {
      cell.append(make("span", { class: statusClass(row[at.status]) }, shown));
    } else {
      cell.append(shown);
    }
    return cell;
  });
  return make("tr", {}, ...cells);
}

function statusClass(status) {
  if (GOOD.includes(status)) return "good";
  return BAD.includes(status) ? "bad" : "open";
}

function draw(first = state.page * PAGE, count = PAGE) {
  const places = state.shown.slice(first, first + count);
  byId("rows").tBodies[0].replaceChildren(...places.map(tableRow));
  const total = state.shown.length;
  const all = data.rows.length === total ? "" : ` of ${data.rows.length.toLocaleString("en")}`;
  byId("count").textContent = `${total.toLocaleString("en")}${all} results`;
  const last = Math.max(Math.ceil(total / PAGE), 1);
  byId("place").textContent = `page ${state.page + 1} of ${last}`;
  byId("previous").disabled = state.page === 0;
  byId("next").disabled = state.page >= last - 1;
  for (const head of byId("rows").tHead.rows[0].cells) {
    if (head.dataset.name === state.sort) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
    const mark = head.dataset.name === state.sort ? (state.down ? " ▼" : " ▲") : "";
    head.firstChild.textContent = COLUMNS.find(({ name }) => name === head.dataset.name).title + mark;
  }
}

function turn(by) {
  const last = Math.max(Math.ceil(state.shown.length / PAGE) - 1, 0);
  const page = Math.min(Math.max(state.page + by, 0), last);
  if (page === state.page) return false;
  state.page = page;
  draw();
  return true;
}

function prepareTable() {
  byId("rows").tHead.rows[0].append(...COLUMNS.map(({ name, title, minor }) => {
    const classes = [minor ? "minor" : "", NUMBERS.includes(name) ? "number" : ""].join(" ").trim();
    const button = make("button", { type: "button" }, title);
    button.addEventListener("click", () => {
      state.down = state.sort === name && !state.down;
      state.sort = name;
      refresh();
    });
    return make("th", { scope: "col", "data-name": name, class: classes || null }, button);
  }));
  if (data.folder) byId("folder").textContent = `All in ${data.folder}`;
  data.classes.forEach((name, place) => byId("of-class").append(make("option", { value: place }, name)));
  const statuses = [...new Set(data.rows.map((row) => row[at.status]))].sort();
  for (const name of statuses) byId("of-status").append(make("option", { value: name }, name.replace("_", " ")));
  const filters = byId("filters");
  filters.addEventListener("input", refresh);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(refresh));
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("rows").tBodies[0].addEventListener("click", (event) => {
    const place = event.target.closest("tr")?.querySelector(".name").dataset.place;
    if (place !== undefined && !String(getSelection())) openCard(Number(place));
  });
}

/** Move the focus by rows, over the ends of pages. */
function walk(by) {
  const names = [...byId("rows").querySelectorAll(".name")];
  const here = names.indexOf(document.activeElement);
  const next = here < 0 ? 0 : here + by;
  if (next >= 0 && next < names.length) names[next].focus();
  else if (turn(by)) [...byId("rows").querySelectorAll(".name")].at(by > 0 ? 0 : -1).focus();
}

// --- cards

/** Claim, notes, finding and document of a row, from the compressed chunk that holds it. */
async function entryOf(place) {
  const text = byId(`chunk-${Math.floor(place / data.chunk)}`).textContent;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text())[place % data.chunk];
}

async function openCard(place) {
  state.open = place;
  const { claim, notes, finding, sha256, document: answer } = await entryOf(place);
  if (state.open !== place) return; // another card was asked for meanwhile
  const row = data.rows[place];
  byId("card-title").textContent = data.folder + row[at.image];
  byId("card-body").replaceChildren(
    make("p", { class: "claim" }, claim),
    ...notes.map((note) => make("p", { class: "help" }, note)),
    make("p", {}, finding),
    ...(answer === null ? [] : panels(place, answer)),
    factsOf(row, answer, sha256),
    ...(answer === null ? [] : jsonOf(row, answer)),
  );
  const shown = state.shown.indexOf(place);
  byId("back").disabled = shown <= 0;
  byId("forth").disabled = shown < 0 || shown >= state.shown.length - 1;
  history.replaceState(null, "", `#image-${place + 1}`);
  if (!byId("card").open) byId("card").showModal();
  byId("card").scrollTop = 0;
}

function step(by) {
  const shown = state.shown.indexOf(state.open) + by;
  if (state.open >= 0 && shown >= 0 && shown < state.shown.length) openCard(state.shown[shown]);
}

function panels(place, answer) {
  const source = byId(`pictures-${place}`);
  if (source === null) {
    return [make("p", { class: "help" }, "Without pictures, to keep this page small; ",
      make("code", {}, `corgi ${answer.kind} MODEL IMAGE --picture FILE`), " draws them.")];
  }
  const pictures = JSON.parse(source.textContent);
  const [height, width] = answer.map_shape;
  const swept = answer.kind === "sweep";
  const witness = (swept ? answer.witness : answer.attack?.witness) ?? null;
  const lost = new Set((witness?.lost ?? []).map(String));
  const largest = `the ${answer.k} largest pixels of the map`;
  const radius = data.rows[place][at.certified];
  const asked = answer.property ?? { name: "topk", region: null };
  const of = asked.name.split("+");
  const stay = answer.k2 > answer.k ? `stay among the ${answer.k2} largest` : "stay the same";
  const claim = asked.name === "topk" ? `${largest}: they ${stay}` : `${largest}; ${asked.statement}`;
  const edge = asked.region ? [outline(height, width, asked.region)] : [];
  const found = [
    panel(pictures.image, "image, as the network gets it (8 bits)", drawing(height, width, edge), false),
    panel(pictures.map, `map, from ${pictures.range[0]} to ${pictures.range[1]}`, drawing(height, width, edge), false),
    panel(pictures.image, Number(radius) > 0 ? `${claim} ${swept ? "up to size" : "within"} ${radius}` : largest,
      marks(height, width, sides(answer.top_k, asked.region), edge)),
  ];
  if (witness && pictures.change) {
    const kept = answer.top_k.filter((pixel) => !lost.has(String(pixel)));
    const set = of.includes("topk") || of.includes("overlap");
    found.push(
      panel(pictures.change, swept ? `witness: the image at t = ${witness.parameters.map(short).join(", ")}`
        : `witness at distance ${data.rows[place][at.broken]}: what it changes, amplified`),
      panel(pictures.witnessMap, `map of the witness (network predicts class ${witness.class_id})`,
        drawing(height, width, edge), false),
      set
        ? panel(pictures.image,
          (asked.name === "topk" ? "" : `${witness.shows}; `)
            + `its ${answer.k2} largest: blue kept, red × lost (${lost.size}), yellow + ${answer.k2 > answer.k ? "others" : "gained"}`,
          marks(height, width, [["kept", kept], ["lost", witness.lost], ["gained", pictures.gained]], edge))
        : panel(pictures.image,
          `${witness.shows}; its ${answer.k} largest pixels${asked.region ? ": blue inside, red × outside" : ""}`,
          marks(height, width, sides(pictures.largest, asked.region), edge)),
    );
  }
  if (pictures.radii) found.push(panel(pictures.radii, "certified radius of every pixel, logarithmic; grey: 0"));
  return [...(swept ? series(answer) : []), make("div", { class: "panels" }, ...found)];
}

const short = (value) => Number(value.toPrecision(4));
const sizeOf = (answer, size) => (answer.unit ? `${short(size)} ${answer.unit}` : `${short(100 * size)}%`);

/** Where along a change the property holds: its intervals; of two parameters its parts; of more its sizes. */
function series(answer) {
  const end = answer.sizes.at(-1).size;
  const [low, high] = [answer.two_sided.some(Boolean) ? -end : 0, end];
  const plane = answer.parameters.length === 2;
  const boxes = plane
    ? answer.parts.map(({ lower, upper, finding }) => [finding, [lower[0], upper[0]], [lower[1], upper[1]]])
    : answer.intervals.map(({ lower, upper, finding }) => [finding, [lower, upper], [0, 1]]);
  if (!boxes.length) return [];
  const [width, left, top] = [plane ? 360 : 460, 54, 10];
  const height = plane ? width - left - 26 : 40;
  const [bottom, above] = plane ? [low, high] : [0, 1];
  const across = (t) => left + ((t - low) / (high - low)) * (width - left - 26);
  const up = (t) => top + ((above - t) / (above - bottom)) * height;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${top + height + 40}`, role: "img", "aria-label": `the property along ${answer.change}` });
  for (const [finding, [x, right], [y, over]] of boxes) {
    drawing.append(svg("rect", { class: `part ${finding}`, x: across(x), y: up(over), width: across(right) - across(x), height: up(y) - up(over) }));
  }
  const at = answer.witness?.parameters;
  if (at) drawing.append(svg("path", { class: "witness", d: `M${across(at[0]) - 5} ${up(plane ? at[1] : 0.5) - 5}l10 10m0-10l-10 10` }));
  for (const tick of [...new Set([low, low / 2, 0, high / 2, high])]) {
    drawing.append(svg("path", { class: "axis", d: `M${across(tick)} ${top + height}v4` }),
      svg("text", { x: across(tick), y: top + height + 17, "text-anchor": "middle" }, String(short(tick))));
    if (plane) drawing.append(svg("text", { x: left - 4, y: up(tick) + 4, "text-anchor": "end" }, String(short(tick))));
  }
  const unit = answer.unit ? `, ${answer.unit}` : "";
  const names = answer.parameters.map((name, place) => `${plane ? ["across", "up"][place] : "t"}: ${name}`).join(", ") + unit;
  drawing.append(svg("text", { x: width / 2, y: top + height + 34, "text-anchor": "middle" }, names));
  const key = (name, text) => make("span", { class: `key ${name}` }, `\u25a0 ${text} `);
  return [make("figure", { class: "chart series" },
    make("figcaption", {}, key("holds", "proved to hold"), key("broken", "proved to be broken"), key("unknown", "open"), at ? "\u00d7 witness" : ""), drawing)];
}

function panel(url, caption, overlay = null, dim = overlay !== null) {
  const image = make("img", { src: url, alt: dim ? "" : caption });
  const box = make("div", { class: dim ? "panel dim" : "panel" }, image, ...(overlay ? [overlay] : []));
  return make("figure", {}, box, make("figcaption", {}, caption));
}

/** Pixels by the side of the region they lie on; all are blue where there is none. */
function sides(pixels, region) {
  if (!region) return [["kept", pixels]];
  const inside = new Set(region.map(String));
  return [["kept", pixels.filter((p) => inside.has(String(p)))], ["lost", pixels.filter((p) => !inside.has(String(p)))]];
}

/** The edge of a region of the map, seen on any picture. */
function outline(height, width, region) {
  const inside = new Set(region.map(String));
  const beyond = (row, column) => !inside.has(String([row, column]));
  let path = "";
  for (const [row, column] of region) {
    if (beyond(row - 1, column)) path += `M${column} ${row}h1`;
    if (beyond(row + 1, column)) path += `M${column} ${row + 1}h1`;
    if (beyond(row, column - 1)) path += `M${column} ${row}v1`;
    if (beyond(row, column + 1)) path += `M${column + 1} ${row}v1`;
  }
  return path;
}

/** A drawing over a picture: edges of regions, or nothing where there are none. */
function drawing(height, width, edges) {
  return edges.length ? marks(height, width, [], edges) : null;
}

/** Pixels of the map over a picture: groups of [class, [[row, column], ...]], and edges of regions. */
function marks(height, width, groups, edges = []) {
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [name, pixels] of groups) {
    for (const [row, column] of pixels) {
      drawing.append(svg("rect", { class: name, x: column, y: row, width: 1, height: 1 }));
      if (name === "lost") {
        drawing.append(svg("path", { class: "mark", d: `M${column + 0.25} ${row + 0.25}l.5 .5m0-.5l-.5 .5` }));
      } else if (name === "gained") {
        drawing.append(svg("path", { class: "mark", d: `M${column + 0.5} ${row + 0.2}v.6m-.3-.3h.6` }));
      }
    }
  }
  for (const path of edges) {
    drawing.append(svg("path", { class: "edge dark", d: path }), svg("path", { class: "edge", d: path }));
  }
  return drawing;
}

function factsOf(row, answer, sha256) {
  const swept = answer?.kind === "sweep";
  const shown = [
    ["run", data.runs[row[at.run]]],
    ["status", row[at.status].replace("_", " ") + (row[at.reason] ? `: ${row[at.reason]}` : "")],
    ["class", data.classes[row[at.class]]],
    ["network predicts", row[at.predicted] === null ? null : `class ${row[at.predicted]}`],
    ["the data say", row[at.trueClass]],
    [swept ? "certified up to size" : "certified radius", row[at.certified] && `${row[at.certified]} (deterministic)`],
    ["map and label", row[at.joint] && `${row[at.joint]} (deterministic)`],
    [swept ? "broken at size" : "attack radius", row[at.broken] && `${row[at.broken]} (${swept ? "proved or confirmed" : "empirical"})`],
    ["attack / certified", row[at.ratio]],
    ["seconds", row[at.seconds]],
    ["SHA-256 of the image", sha256],
  ];
  if (answer !== null) {
    shown.push(
      ["property", answer.property && answer.property.name !== "topk" ? answer.property.statement : null],
      ["holds at the image", answer.property && answer.property.holds_at_image === false ? "no" : null],
      ["region", answer.property?.region ? `${answer.property.region_count} map pixels` : null],
      ["change", swept ? `${answer.change}: ${answer.set}` : null],
      ["sizes decided", (answer.sizes ?? []).map((one) => `${sizeOf(answer, one.size)} ${one.status}`).join(", ")],
      ["radii decided", (answer.radii ?? []).map((one) => `${Number(one.radius_255.toPrecision(4))}/255 ${one.status}`).join(", ")],
      ["ranks", answer.k2 > answer.k ? `k = ${answer.k}, k2 = ${answer.k2}` : `k = ${answer.k}`],
      ["method", swept ? `${answer.engine}, ${answer.bounded} parts bounded` : `${answer.method}, ${answer.form} form, ${answer.engine}`],
      ["less than the method", answer.method_note || null],
      ["float64 decision", answer.recheck && `margin ${answer.recheck.margin.toPrecision(3)}, rounding explains at most ${answer.recheck.rounding_bound.toPrecision(2)}`],
      ["gap after rank k", answer.tie ? "tie" : answer.gap.toPrecision(3)],
    );
  }
  const lines = shown.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, String(value))));
  return make("table", { class: "plain facts" }, make("tbody", {}, ...lines));
}

function jsonOf(row, answer) {
  const text = JSON.stringify(answer, null, 1);
  const save = make("button", { type: "button" }, "Save as file");
  save.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    make("a", { href: url, download: `${row[at.image].split("/").at(-1)}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  return [make("details", {}, make("summary", {}, "JSON"), make("p", {}, save), make("pre", { tabindex: "0" }, text))];
}

function prepareCards() {
  byId("close").addEventListener("click", () => byId("card").close());
  byId("back").addEventListener("click", () => step(-1));
  byId("forth").addEventListener("click", () => step(1));
  byId("card").addEventListener("click", (event) => {
    if (event.target === byId("card")) byId("card").close(); // the backdrop
  });
  byId("card").addEventListener("close", () => {
    showRow(state.open);
    state.open = -1;
    history.replaceState(null, "", " ");
  });
  openLinked();
  addEventListener("hashchange", openLinked);
}

function openLinked() {
  const linked = Number(/^#image-(\d+)$/.exec(location.hash)?.[1]) - 1;
  if (linked in data.rows) openCard(linked);
}

/** Turn to the page of a row and give it the focus: where the reader left off. */
function showRow(place) {
  const shown = state.shown.indexOf(place);
  if (shown < 0) return;
  turn(Math.floor(shown / PAGE) - state.page);
  byId("rows").querySelector(`[data-place="${place}"]`)?.focus();
}

// --- comparison of two runs

/** What is certified of the images two runs share, one against the other. */
function scatter(first, second, what) {
  const radii = new Map();
  for (const row of data.rows) {
    if (row[at.run] === first && Number(row[at.certified]) > 0) radii.set(row[at.file], Number(row[at.certified]));
  }
  const pairs = [];
  for (const row of data.rows) {
    const x = row[at.run] === second ? radii.get(row[at.file]) : undefined;
    if (x !== undefined && Number(row[at.certified]) > 0) pairs.push([x, Number(row[at.certified])]);
  }
  if (!pairs.length) return [];
  let [low, high] = [Infinity, 0];
  for (const [x, y] of pairs) [low, high] = [Math.min(low, x, y), Math.max(high, x, y)];
  [low, high] = [low / 1.2, high * 1.2];
  const [size, edge] = [400, 76];
  const place = (value) => (Math.log(value / low) / Math.log(high / low)) * (size - edge - 12);
  const across = (value) => edge + place(value);
  const up = (value) => size - edge - place(value);
  const ticks = [];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade += 1) {
    for (const digit of [1, 2, 5]) {
      const tick = Number(`${digit}e${decade}`);
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  const thin = Math.ceil(ticks.length / 6);
  const grid = svg("g", { class: "grid" });
  for (const tick of ticks.filter((_, number) => number % thin === 0)) {
    grid.append(
      svg("path", { d: `M${edge} ${up(tick)}H${size - 12}M${across(tick)} 12V${size - edge}` }),
      svg("text", { x: edge - 5, y: up(tick) + 4, "text-anchor": "end" }, String(tick)),
      svg("text", { x: across(tick), y: size - edge + 16, "text-anchor": "middle" }, String(tick)),
    );
  }
  const dots = pairs.map(([x, y]) => `M${across(x).toFixed(1)} ${up(y).toFixed(1)}h0`);
  const drawing = svg("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `${what} in both runs` },
    grid,
    svg("path", { class: "median", d: `M${across(low)} ${up(low)}L${across(high)} ${up(high)}` }),
    svg("path", { class: "points certified", d: [...new Set(dots)].join("") }),
    svg("text", { x: (size + edge) / 2, y: size - 8, "text-anchor": "middle" }, `${what}, run ${first + 1}`),
    svg("text", { x: 14, y: (size - edge) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(size - edge) / 2})` },
      `${what}, run ${second + 1}`));
  return [make("figure", { class: "chart scatter" }, make("figcaption", {}, "Each point an image certified in both; dashed: equal"), drawing)];
}

function compare() {
  const [a, b] = [Number(byId("first").value), Number(byId("second").value)];
  const pair = data.comparisons.find(({ first, second }) => first === Math.min(a, b) && second === Math.max(a, b));
  if (!pair) {
    const why = a === b ? "Choose two different runs." : "Choose two runs of balls, or along one change.";
    byId("compared").replaceChildren(make("p", {}, why));
    return;
  }
  const boxes = pair.facts.map(([name, value, note]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value, make("small", {}, note))));
  const links = pair.changed.map(([x, y]) => {
    const button = make("button", { type: "button", class: "name" }, data.rows[y][at.image]);
    button.addEventListener("click", () => openCard(y));
    return make("tr", {}, make("td", {}, button),
      ...[x, y].map((place) => make("td", { class: "number" }, data.rows[place][at.certified] ?? "-")));
  });
  const names = [pair.first, pair.second].map((number) => `Run ${number + 1}`);
  const table = make("table", { class: "plain" }, make("caption", {}, pair.title),
    make("thead", {}, make("tr", {}, ...["Image", ...names].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...links));
  byId("compared").replaceChildren(
    make("p", {}, `First is ${data.runs[pair.first]}; second is ${data.runs[pair.second]}.`),
    make("dl", { class: "headline" }, ...boxes),
    make("div", { class: "charts" }, ...scatter(pair.first, pair.second, pair.certified),
      ...(links.length ? [make("div", { class: "wide" }, table)] : [])),
  );
}

function prepareRuns() {
  if (data.runs.length < 2) return;
  const showRun = () => {
    for (const box of document.querySelectorAll(".run")) box.hidden = box.dataset.run !== byId("run").value;
  };
  byId("run").addEventListener("input", showRun);
  showRun();
  byId("first").addEventListener("input", compare);
  byId("second").addEventListener("input", compare);
  compare();
}

// --- keys, colours, print

function prepareKeys() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inField = event.target.closest("input, select, textarea, pre");
    if (byId("card").open) {
      if (inField) return;
      if (event.key === "ArrowLeft") step(-1);
      else if (event.key === "ArrowRight") step(1);
      return;
    }
    if (event.key === "/" && !inField) {
      event.preventDefault();
      byId("text").focus();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.closest("#rows tbody, #text")) {
      event.preventDefault();
      walk(event.key === "ArrowDown" ? 1 : -1);
    }
  });
}

function prepareColours() {
  const root = document.documentElement;
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.style.colorScheme || (system.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    root.style.colorScheme = isDark() ? "light" : "dark";
    name();
  });
  system.addEventListener("change", name);
  name();
}

/** Print all rows that are shown, not only this page of them, up to a limit that is said. */
function preparePrint() {
  byId("print").addEventListener("click", () => print());
  addEventListener("beforeprint", () => {
    draw(0, PRINTED);
    const more = state.shown.length - PRINTED;
    byId("cut").textContent = more > 0
      ? `Printed are the first ${PRINTED}; the other ${more.toLocaleString("en")} results are ${data.bundle ? "in report.json" : "in the store"}.` : "";
  });
  addEventListener("afterprint", () => draw());
}

prepareTable();
prepareRuns();
prepareKeys();
prepareColours();
preparePrint();
refresh();
prepareCards();
