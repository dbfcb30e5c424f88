"use strict";
// Draws what the page's data says. One word, one layer and one head are in focus everywhere.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const at = { text: 0, token: 0, layer: 0, head: 0 };
let T; // the open text, its arrays unpacked

// ---- reading the data -------------------------------------------------------------------------

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
}

function unpack(p) {
  const code = new Uint16Array(bytes(p.data)), low = new Float32Array(bytes(p.low));
  const step = new Float32Array(bytes(p.step)), row = code.length / low.length;
  const value = new Float64Array(code.length);
  for (let i = 0; i < code.length; i++) {
    const r = Math.floor(i / row);
    value[i] = low[r] + step[r] * code[i];
  }
  return { shape: p.shape, value };
}

// The innermost row at the given places of the first axes.
function row(array, ...places) {
  const size = array.shape.slice(places.length).reduce((a, b) => a * b, 1);
  let start = 0;
  places.forEach((place, axis) => { start = start * array.shape[axis] + place; });
  return array.value.subarray(start * size, (start + 1) * size);
}

function unpackScores(p) {
  const [layers, heads, n] = p.shape, half = (n * (n + 1)) / 2;
  const code = new Uint16Array(bytes(p.data));
  const low = new Float32Array(bytes(p.low)), step = new Float32Array(bytes(p.step));
  return (layer, head, i) => {
    const r = (layer * heads + head) * n + i, start = (layer * heads + head) * half + (i * (i + 1)) / 2;
    return Array.from({ length: i + 1 }, (_, j) => {
      const c = code[start + j];
      return c === 65535 ? -Infinity : low[r] + step[r] * c;
    });
  };
}

function softmax(scores) {
  const top = Math.max(...scores), e = scores.map((s) => Math.exp(s - top));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / sum);
}

function open(number) {
  const t = DATA.texts[number];
  T = { ...t, first: unpack(t.embeddings.first), logits: unpack(t.logits).value };
  T.order = Array.from(T.logits.keys()).sort((a, b) => T.logits[b] - T.logits[a]);
  const a = t.attention;
  if (a) {
    T.scores = unpackScores(a.scores);
    for (const name of ["query", "key", "value"]) T[name] = unpack(a[name]);
  }
  if (t.rotation) T.keys = unpack(t.rotation.keys);
  if (t.norms) {
    for (const name of ["before", "after", "size_before", "size_after"]) T[name] = unpack(t.norms[name]);
  }
  if (t.firing) {
    for (const name of ["fired", "up", "open", "most"]) T[name] = unpack(t.firing[name]);
    T.gate = t.firing.gate && unpack(t.firing.gate);
  }
  if (t.lens) { T.lensShares = unpack(t.lens.shares); T.lensAnswer = unpack(t.lens.answer); }
}

// ---- words ------------------------------------------------------------------------------------

const visible = (s) => s.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ +| +$/g, (m) => "·".repeat(m.length));
const word = (id) => visible(DATA.words[id] ?? `#${id}`);
const piece = (i) => {
  const p = T.pieces[i];
  return p.bytes ? `${p.of}‹${p.bytes}›` : visible(p.text);
};
const quoted = (s) => `“${s}”`;
const number = (x, digits = 2) => (Object.is(x, -Infinity) ? "—" : x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−"));
function percent(x) {
  if (x >= 0.9995) return (100 * x).toFixed(x < 1 ? 2 : 0) + "%";
  if (x >= 0.0995) return (100 * x).toFixed(1) + "%";
  return x >= 0.0001 ? (100 * x).toFixed(2) + "%" : x > 0 ? "under 0.01%" : "0%";
}
const keyHead = () => Math.floor(at.head / (DATA.model.heads / DATA.model.kv_heads));

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "line", "circle", "path", "text", "rect", "polyline", "g", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null));
  return node;
}
const fill = (id, ...children) => $(id).replaceChildren(...children);
const chip = (text, cls = "") => el("span", { class: `chip ${cls}`, dir: "auto" }, text);
const bar = (share, cls = "") => el("span", { class: `bar ${cls}`, "aria-hidden": "true" },
  el("span", { style: `width:${(100 * Math.max(0, Math.min(1, share))).toFixed(2)}%` }));

function table(heads, rows, cls = "") {
  const cell = (c, tag) => el(tag, tag === "th" ? { scope: "col" } : {}, ...[c].flat());
  return el("table", { class: cls },
    el("thead", {}, el("tr", {}, ...heads.map((h) => cell(h, "th")))),
    el("tbody", {}, ...rows.map((r) => el("tr", { class: r.cls || "" }, ...(r.cells || r).map((c) => cell(c, "td"))))));
}

// ---- colours ----------------------------------------------------------------------------------

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
function mix(from, to, share) {
  const a = rgb(from), b = rgb(to);
  return `rgb(${a.map((x, i) => Math.round(x + (b[i] - x) * share)).join(",")})`;
}

// A canvas of cells (rows by columns), sharp on any screen; the aria label says what it shows.
function cells(id, rows, columns, size, paint, label, gap = 1) {
  const canvas = $(id), scale = window.devicePixelRatio || 1;
  canvas.width = columns * size * scale;
  canvas.height = rows * size * scale;
  canvas.style.width = `${columns * size}px`;
  canvas.style.height = `${rows * size}px`;
  canvas.setAttribute("aria-label", label);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const ink = paint(r, c);
      if (!ink) continue;
      pen.fillStyle = ink;
      pen.fillRect(c * size, r * size, size - gap, size - gap);
    }
  }
  return pen;
}

function place(event, size) {
  const box = event.currentTarget.getBoundingClientRect();
  return [Math.floor((event.clientY - box.top) / size), Math.floor((event.clientX - box.left) / size)];
}

// ---- the sections -----------------------------------------------------------------------------

function drawTop() {
  const answer = T.order[0], share = next(1, 0, 1)[0].share;
  const best = [...T.effects].sort((a, b) => b.bits - a.bits)[0];
  fill("short", el("p", {}, "After ", el("q", { dir: "auto" }, T.text), " the likeliest next token is ",
    chip(word(answer), "strong"), `, with ${percent(share)}.`),
    el("p", {}, best && best.bits > 0 ? "What told it most is " : "No single word told it: ",
      best && best.bits > 0 ? chip(span(best), "strong") : "leave any of them out and it stays.",
      best && best.bits > 0 ? `: without it that would be ${percent(best.share)}.` : ""));
  fill("why", T.why);
  $("why").hidden = !T.why;
}

const span = (e) => e.word.trim() || visible(e.word);

function drawTokens() {
  fill("tokens", ...T.pieces.map((p, i) => el("li", { class: p.special ? "special" : "" },
    el("span", { class: "piece", dir: "auto" }, piece(i)), el("small", {}, p.id))));
  const parts = T.pieces.filter((p) => p.bytes).length;
  fill("token-note", `${T.text.length ? [...T.text].length : 0} characters became ${T.pieces.length} tokens. `
    + "A dot stands for a space." + (parts ? ` ${parts} of the tokens are only a part of a character: `
    + "the vocabulary does not have it whole, so it is spelt in bytes, which are shown in hexadecimal." : ""));
}

function drawEmbeddings() {
  const [n, d] = T.first.shape, top = Math.max(...T.first.value.map(Math.abs));
  const blank = colour("--panel"), plus = colour("--blue"), minus = colour("--orange");
  const size = Math.max(6, Math.min(14, Math.floor($("strip-box").clientWidth / d)));
  cells("strip", n, d, size, (r, c) => {
    const x = row(T.first, r)[c];
    return mix(blank, x < 0 ? minus : plus, Math.min(1, Math.sqrt(Math.abs(x) / top)));
  }, `The first ${d} numbers of the vectors of ${n} tokens, one row a token`);
  const i = at.token, e = T.embeddings;
  fill("near", "Nearest to ", chip(piece(i), "focus"), " in the vocabulary: ",
    ...e.near[i].flatMap((id, k) => [chip(word(id)), ` ${number(e.cosine[i][k])}${k < e.near[i].length - 1 ? ", " : "."}`]),
    ` Its vector begins ${Array.from(row(T.first, i)).slice(0, 6).map((x) => number(x, 3)).join(", ")}, …`);
  fill("twins", ...T.twins.map((t) => el("figure", {},
    el("figcaption", {}, chip(piece(t.one)), ` is there twice, as token ${t.one + 1} and token ${t.other + 1}. How alike its two vectors are,`
      + ` from 1 (the same) down: ${number(t.cosine[0])} where they enter, ${number(Math.min(...t.cosine))} at the least,`
      + ` after layer ${t.cosine.indexOf(Math.min(...t.cosine))}. The words around have changed what it means.`),
    lines([{ values: t.cosine, cls: "one" }], { low: Math.min(0, ...t.cosine), high: 1, label: `Cosine of the two vectors of ${piece(t.one)} by layer` }))));
}

function lines(series, { low, high, label, log = false }) {
  const w = 560, h = 150, n = series[0].values.length, f = log ? Math.log10 : (x) => x;
  const y = (v) => 10 + (h - 40) * (1 - (f(v) - f(low)) / (f(high) - f(low) || 1));
  const x = (i) => 44 + ((w - 56) * i) / Math.max(1, n - 1);
  const ticks = log ? [low, Math.sqrt(low * high), high] : [low, (low + high) / 2, high];
  return el("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": label, class: "plot" },
    ...ticks.flatMap((v) => [el("line", { class: "grid", x1: 44, x2: w - 12, y1: y(v), y2: y(v) }),
      el("text", { x: 38, y: y(v) + 4, "text-anchor": "end" }, Math.abs(v) >= 100 ? v.toFixed(0) : v.toFixed(2))]),
    ...series.map((s) => el("polyline", { class: `curve ${s.cls}`, points: s.values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ") })),
    el("text", { x: 44, y: h - 8 }, n > DATA.model.layers ? "embeddings" : "layer 1"),
    el("text", { x: w - 12, y: h - 8, "text-anchor": "end" }, `layer ${DATA.model.layers}`));
}

function drawPositions() {
  const r = T.rotation;
  if (!r) return;
  const freq = r.frequencies[r.kind[at.layer]], p = Number($("position").value);
  $("position-out").textContent = p + 1;
  const key = row(T.keys, at.layer, keyHead(), at.token);
  fill("clocks", ...r.pairs.map((pair, k) => {
    const f = freq[pair], turn = f * p, x = key[2 * k], y = key[2 * k + 1], a = -f * at.token;
    const before = [x * Math.cos(a) - y * Math.sin(a), x * Math.sin(a) + y * Math.cos(a)];
    const hand = [50 + 38 * Math.sin(turn), 50 - 38 * Math.cos(turn)];
    const round = (2 * Math.PI) / f;
    return el("figure", { class: "clock" },
      el("svg", { viewBox: "0 0 100 100", role: "img", "aria-label": `Pair ${pair + 1}: turned by ${number((turn * 180) / Math.PI, 1)} degrees at position ${p + 1}` },
        el("circle", { cx: 50, cy: 50, r: 42, class: "dial" }),
        el("line", { x1: 50, y1: 50, x2: 50, y2: 12, class: "rest" }),
        el("line", { x1: 50, y1: 50, x2: hand[0], y2: hand[1], class: "hand" }),
        el("circle", { cx: hand[0], cy: hand[1], r: 4, class: "tip" })),
      el("figcaption", {}, el("strong", {}, `pair ${pair + 1}`), el("br"),
        `${number((f * 180) / Math.PI, f > 0.02 ? 1 : 4)}° a token`, el("br"),
        `round in ${round < 100 ? number(round, 1) : Math.round(round).toLocaleString("en")} tokens`, el("br"),
        el("small", {}, `(${number(before[0])}, ${number(before[1])}) →`, el("br"), `(${number(x)}, ${number(y)})`)));
  }));
  const rest = r.dimensions - r.rotated;
  fill("rotation-note", `A head has ${r.dimensions} numbers; ${r.rotated} of them turn, as ${r.rotated / 2} pairs`
    + (rest ? `, and ${rest} stay as they are` : "") + `. Dimension i turns with dimension i + ${r.rotated / 2}. `
    + (r.frequencies.length > 1 ? `The layers of this model turn at ${r.frequencies.length} different speeds; shown are those of layer ${at.layer + 1}. ` : "")
    + "The numbers below each dial are real: a part of the key of ");
  $("rotation-note").append(chip(piece(at.token), "focus"), ` (layer ${at.layer + 1}, head ${at.head + 1}) before and after its turn.`);
}

const KIND_COLOURS = ["--grey", "--sky", "--yellow", "--blue"];

function drawAttention() {
  const a = T.attention;
  if (!a) return;
  const { layers, heads } = DATA.model, n = T.pieces.length, skip = $("skip").checked;
  const inks = KIND_COLOURS.map(colour), blank = colour("--page"), ink = colour("--blue");
  const size = Math.max(9, Math.min(18, Math.floor($("map-box").clientWidth / heads)));
  const pen = cells("map", layers, heads, size, (l, h) => inks[a.kinds[l][h]],
    `${layers} layers of ${heads} heads, coloured by what each looks at most`);
  pen.strokeStyle = colour("--ink");
  pen.lineWidth = 2;
  pen.strokeRect(at.head * size + 0.5, at.layer * size + 0.5, size - 2, size - 2);
  T.mapSize = size;
  const counts = DATA.kinds.map((_, k) => a.kinds.flat().filter((x) => x === k).length);
  fill("map-key", ...DATA.kinds.map((kind, k) => el("li", {}, el("span", { class: "swatch", style: `background:var(${KIND_COLOURS[k]})` }),
    ` ${kind}: ${counts[k]} of ${layers * heads}`)));

  const weights = Array.from({ length: n }, (_, i) => softmax(T.scores(at.layer, at.head, i)));
  const shown = (i, j) => (skip && i > 0 ? (j === 0 ? 0 : weights[i][j] / Math.max(1e-9, 1 - weights[i][0])) : weights[i][j]);
  const cell = Math.max(8, Math.min(24, Math.floor(($("heat-box").clientWidth - 120) / n)));
  T.cell = cell;
  cells("heat", n, n, cell, (i, j) => (j > i ? null : mix(colour("--panel"), ink, Math.sqrt(shown(i, j)))),
    `Attention of layer ${at.layer + 1}, head ${at.head + 1}: a row for each of ${n} tokens, a column for each that it looks back at`);
  const mark = $("heat").getContext("2d");
  mark.strokeStyle = colour("--orange");
  mark.lineWidth = 2;
  mark.strokeRect(1, at.token * cell, (at.token + 1) * cell - 2, cell - 1);
  fill("heat-rows", ...T.pieces.map((_, i) => el("li", { style: `height:${cell}px;line-height:${cell}px;font-size:${Math.min(13, cell)}px`,
    class: i === at.token ? "focus" : "", dir: "auto" }, piece(i))));
  T.weights = weights;
  const of = weights[at.token].map((share, j) => [share, j]).sort((x, y) => y[0] - x[0]).slice(0, 4);
  const shares = a.shares[at.layer][at.head];
  fill("head-words", `In layer ${at.layer + 1}, head ${at.head + 1}, `, chip(piece(at.token), "focus"), " looks at ",
    ...of.flatMap(([share, j], k) => [chip(piece(j)), ` ${percent(share)}${j === 0 && at.token > 0 ? " (the sink)" : j === at.token ? " (itself)" : ""}${k < of.length - 1 ? ", " : ". "}`]),
    `Over the whole text this head gives ${DATA.kinds.map((kind, k) => `${percent(shares[k])} to ${["the first token", "the previous token", "the token itself", "anything else"][k]}`).join(", ")}.`
    + (a.window[at.layer] ? ` This layer sees the last ${a.window[at.layer]} tokens only.` : ""));
  drawLinks();
  fill("sink", lines([{ values: a.sink, cls: "one" }], { low: 0, high: 1, label: "Share of the attention that goes to the first token, by layer" }));
}

function drawLinks() {
  const links = T.attention.links;
  fill("links", ...links.map((l) => el("li", {},
    el("button", { type: "button", onclick: () => move({ layer: l.layer, head: l.head, token: l.source }) },
      chip(piece(l.source)), " looks back at ", chip(piece(l.target)), ` with ${percent(l.share)}`), `, others with ${percent(l.others)}`,
    el("small", {}, ` layer ${l.layer + 1}, head ${l.head + 1}${l.heads > 1 ? `; ${l.heads - 1} more at least half as strongly` : ""}`))));
  $("links-none").hidden = links.length > 0;
}

function drawNumbers() {
  const a = T.attention;
  if (!a) return;
  const i = at.token, scores = T.scores(at.layer, at.head, i), weights = softmax(scores), shown = T.query.shape[3];
  const scaling = a.scaling[at.layer], cap = a.softcap[at.layer];
  const first = (x) => Array.from(x).slice(0, 4).map((v) => number(v)).join("  ");
  const raw = (s) => (cap ? cap * Math.atanh(Math.max(-0.9999999, Math.min(0.9999999, s / cap))) : s) / scaling;
  const sum = new Float64Array(shown);
  const rows = scores.map((s, j) => {
    const k = row(T.key, at.layer, keyHead(), j), v = row(T.value, at.layer, keyHead(), j);
    for (let d = 0; d < shown; d++) sum[d] += weights[j] * v[d];
    return { cls: j === 0 && i > 0 ? "sink" : "", cells: [chip(piece(j), j === i ? "focus" : ""), first(k), Number.isFinite(s) ? number(raw(s)) : "—",
      number(s), [bar(weights[j]), percent(weights[j])], first(v)] };
  });
  fill("query", "The query of ", chip(piece(i), "focus"), ` begins `, el("code", {}, first(row(T.query, at.layer, at.head, i))), " …");
  const scale = Math.abs(scaling - DATA.model.head_dim ** -0.5) < 1e-6 ? `÷ √${DATA.model.head_dim}` : `× ${Number(scaling.toPrecision(4))}`;
  fill("numbers", table(["token", "its key", "q·k", scale + (cap ? `, kept within ±${cap}` : ""), "softmax", "its value"], rows, "numbers"));
  fill("sum", "Each value counts by its share, and the sum goes on: ", el("code", {}, first(sum)), ` … (the first 4 of ${DATA.model.head_dim} numbers). `
    + (DATA.model.heads > DATA.model.kv_heads ? `Keys and values of this head are shared: they are those of group ${keyHead() + 1} of ${DATA.model.kv_heads}.` : ""));
}

function drawFiring() {
  const f = T.firing;
  if (!f) return;
  const i = at.token, l = at.layer, fired = row(T.fired, l, i), up = row(T.up, l, i), gate = T.gate && row(T.gate, l, i);
  const top = Math.max(...Array.from(fired, Math.abs));
  fill("firing", table(["neuron", ...(gate ? ["gate"] : []), gate ? "value" : "before", "answers", ""],
    f.neurons[l][i].map((n, k) => [`${n}`, ...(gate ? [number(gate[k])] : []), number(up[k]), number(fired[k]),
      bar(Math.abs(fired[k]) / top, fired[k] < 0 ? "minus" : "")]), "numbers"));
  fill("firing-note", "At ", chip(piece(i), "focus"), ` in layer ${l + 1}, ${percent(row(T.open, l, i)[0])} of the ${f.hidden.toLocaleString("en")} neurons `
    + `${gate ? "have an open gate (above 0)" : "have a value above 0"}. The ${f.neurons[l][i].length} below make ${percent(row(T.most, l, i)[0])} of the whole answer (of its squares).`);
}

function drawNorms() {
  const n = T.norms;
  if (!n) return;
  const i = at.token, { layers } = DATA.model;
  const before = Array.from({ length: layers }, (_, l) => row(T.size_before, l, i)[0]);
  const after = Array.from({ length: layers }, (_, l) => row(T.size_after, l, i)[0]);
  const all = [...before, ...after].filter((x) => x > 0);
  fill("norm-plot", lines([{ values: before, cls: "one" }, { values: after, cls: "two" }],
    { low: Math.min(...all), high: Math.max(...all), log: true, label: `Size of the vector of ${piece(i)} before and after the norm, by layer` }));
  const first = (x) => Array.from(x).slice(0, 6).map((v) => number(v)).join("  ");
  fill("norm-words", "In layer ", `${at.layer + 1} the vector of `, chip(piece(i), "focus"), ` has the size ${number(before[at.layer])} (root mean square) and leaves the norm with ${number(after[at.layer])}. Before: `,
    el("code", {}, first(row(T.before, at.layer, i))), " … After: ", el("code", {}, first(row(T.after, at.layer, i))), " …");
}

function drawLens() {
  const lens = T.lens;
  if (!lens) return;
  const i = at.token, { layers } = DATA.model, final = lens.ids[layers][i][0];
  const likely = (l) => Math.max(1e-9, row(T.lensAnswer, l)[i]); // no share is 0, but a step of ours may be
  let settled = layers;
  while (settled > 0 && lens.ids[settled - 1][i][0] === final) settled--;
  const band = (l) => (l === 0 ? "" : l <= layers / 3 ? "early" : l <= (2 * layers) / 3 ? "middle" : "deep");
  fill("lens", table(["layer", "it would answer", `${quoted(word(final))} has`],
    Array.from({ length: layers + 1 }, (_, l) => ({ cls: lens.ids[l][i][0] === final ? "right" : "", cells: [
      l ? [`${l} `, el("small", {}, band(l))] : "embeddings",
      lens.ids[l][i].slice(0, 3).flatMap((id, k) => [chip(word(id), id === final ? "strong" : ""), el("small", {}, ` ${percent(row(T.lensShares, l, i)[k])} `)]),
      [bar(likely(l)), el("small", {}, percent(likely(l)))]] })), "lens"));
  fill("lens-words", "After ", chip(piece(i), "focus"), " the whole model says ", chip(word(final), "strong"),
    settled ? `. That is what comes out on top from layer ${settled} on, and not just before.` : ". It is on top from the first layer on.");
}

// transformers' order: temperature, then top-k, then top-p. Returns the tokens that are left, the
// likeliest first, with their shares.
function next(temperature, topK, topP) {
  const order = T.order, x = T.logits, top = x[order[0]] / temperature;
  let kept = topK > 0 ? Math.min(topK, order.length) : order.length;
  const e = new Float64Array(kept);
  let sum = 0;
  for (let k = 0; k < kept; k++) { e[k] = Math.exp(x[order[k]] / temperature - top); sum += e[k]; }
  if (topP < 1) {
    let reached = 0, most = 0;
    while (most < kept && reached < topP * sum) reached += e[most++];
    kept = Math.max(1, most);
    sum = reached || e[0];
  }
  return Array.from({ length: kept }, (_, k) => ({ id: order[k], share: e[k] / sum }));
}

function drawNext() {
  const temperature = Number($("temperature").value), topK = Number($("top-k").value), topP = Number($("top-p").value);
  $("temperature-out").textContent = temperature.toFixed(2);
  $("top-k-out").textContent = topK || "all";
  $("top-p-out").textContent = topP.toFixed(2);
  const left = next(temperature, topK, topP), plain = new Map(next(1, 0, 1).slice(0, 200).map((n) => [n.id, n.share]));
  fill("next", ...left.slice(0, 12).map((n) => el("li", {}, chip(word(n.id), "name"), bar(n.share), el("span", { class: "share", "data-share": n.share }, percent(n.share)),
    el("small", {}, `was ${percent(plain.get(n.id) ?? 0)}`))));
  const entropy = -left.reduce((a, n) => a + (n.share > 0 ? n.share * Math.log2(n.share) : 0), 0);
  fill("next-words", `${left.length.toLocaleString("en")} of ${T.order.length.toLocaleString("en")} tokens can still be drawn. The choice is as open as one among ${(2 ** entropy).toFixed(1)} equally likely tokens.`);
}

function drawEffects() {
  const rows = [...T.effects].sort((a, b) => b.bits - a.bits), top = Math.max(1e-9, ...rows.map((e) => Math.abs(e.bits)));
  const answer = T.order[0];
  const blank = colour("--page"), plus = colour("--blue"), minus = colour("--orange");
  const shade = (e) => mix(blank, e.bits < 0 ? minus : plus, 0.45 * Math.min(1, Math.abs(e.bits) / top));
  fill("marked", ...T.effects.map((e) => el("span", { class: "marked", dir: "auto", style: `background:${shade(e)}`, title: `${number(e.bits)} bits` },
    e.word.replace(/\n/g, "⏎"))));
  fill("effects", table(["left out", `${quoted(word(answer))} then has`, "it had made it", "now likeliest"],
    rows.map((e) => [chip(span(e)), percent(e.share),
      [bar(Math.abs(e.bits) / top, e.bits < 0 ? "minus" : ""), e.bits >= 0 ? `${(2 ** e.bits).toFixed(e.bits < 3 ? 1 : 0)}× likelier` : `${(2 ** -e.bits).toFixed(e.bits > -3 ? 1 : 0)}× less likely`],
      e.instead === answer ? el("small", {}, "the same") : chip(word(e.instead))]), "effects"));
}

function drawMissing() {
  for (const name of ["attention", "rotation", "norms", "firing", "lens"]) {
    document.querySelectorAll(`[data-part="${name}"]`).forEach((node) => { node.hidden = Boolean(T.missing[name]); });
    document.querySelectorAll(`[data-lacks="${name}"]`).forEach((node) => {
      node.hidden = !T.missing[name];
      node.textContent = `Not shown: ${T.missing[name] || ""}.`;
    });
  }
  fill("took", `Reading this text took ${T.seconds.toFixed(2)} s.`);
}

// ---- moving about -----------------------------------------------------------------------------

function drawFocus() {
  fill("focus", el("legend", {}, "Word in focus"), ...T.pieces.map((_, i) => el("label", { dir: "auto" },
    el("input", { type: "radio", name: "focus", value: i, checked: i === at.token, onchange: () => move({ token: i }) }), el("span", {}, piece(i)))));
}

function move(to) {
  Object.assign(at, to);
  $("layer").value = at.layer + 1;
  $("head").value = at.head + 1;
  $("layer-out").textContent = `${at.layer + 1} of ${DATA.model.layers}`;
  $("head-out").textContent = `${at.head + 1} of ${DATA.model.heads}`;
  const radio = document.querySelectorAll("#focus input")[at.token];
  radio.checked = true;
  const box = $("focus"), label = radio.parentElement;
  box.scrollLeft = label.offsetLeft - box.clientWidth / 2 + label.clientWidth / 2;
  drawEmbeddings(); drawPositions(); drawAttention(); drawNumbers(); drawFiring(); drawNorms(); drawLens();
}

function show(text) {
  at.text = text;
  open(text);
  at.token = T.focus;
  const links = T.attention ? T.attention.links : [], link = links.find((l) => l.source === T.focus) || links[0];
  if (link) { at.layer = link.layer; at.head = link.head; }
  drawMissing(); drawTop(); drawTokens(); drawFocus(); drawNext(); drawEffects();
  $("position").max = Math.max(63, T.pieces.length - 1);
  $("position").value = at.token;
  move({});
}

function start() {
  const { layers, heads } = DATA.model;
  $("layer").max = layers;
  $("head").max = heads;
  at.layer = Math.floor(layers / 2);
  $("layer").addEventListener("input", (e) => move({ layer: e.target.value - 1 }));
  $("head").addEventListener("input", (e) => move({ head: e.target.value - 1 }));
  $("position").addEventListener("input", drawPositions);
  $("skip").addEventListener("change", drawAttention);
  for (const id of ["temperature", "top-k", "top-p"]) $(id).addEventListener("input", drawNext);
  document.querySelectorAll("input[name=text]").forEach((radio) => radio.addEventListener("change", () => show(Number(radio.value))));
  $("map").addEventListener("click", (event) => {
    const [layer, head] = place(event, T.mapSize);
    if (layer < layers && head < heads && layer >= 0 && head >= 0) move({ layer, head });
  });
  $("heat").addEventListener("click", (event) => {
    const [i] = place(event, T.cell);
    if (i >= 0 && i < T.pieces.length) move({ token: i });
  });
  $("heat").addEventListener("mousemove", (event) => {
    const [i, j] = place(event, T.cell);
    if (i >= 0 && i < T.pieces.length && j >= 0 && j <= i) fill("heat-words", chip(piece(i)), ` gives ${percent(T.weights[i][j])} to `, chip(piece(j)));
  });
  const again = () => { move({}); drawEffects(); };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  window.addEventListener("resize", again);
  show(0);
}

start();
