"use strict";

const COLORS = 8;
const NEAR = 10; // pixels within which a pointer means a point
const map = document.getElementById("map");
const canvas = document.getElementById("map-canvas");
const state = document.getElementById("map-state");
const bar = document.getElementById("map-progress");
const hint = document.getElementById("map-hint");
const field = document.getElementById("map-field");
let made = null; // what the server told, with `places`: x and y of each point, 0 to 1
let lit = new Set();
let chosen = -1;

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function say(text, isBusy = false) {
  state.textContent = text;
  state.setAttribute("aria-busy", isBusy);
  bar.hidden = !isBusy;
}

function numbers(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), (each) => each.charCodeAt(0)).buffer);
}

async function points() {
  for (;;) {
    const answer = await fetch(map.dataset.points, { headers: { Accept: "application/json" } });
    const facts = await answer.json();
    if (answer.status === 200) return facts;
    if (answer.status !== 202) throw new Error(facts.error.message || facts.error);
    say(`${facts.doing}${facts.done ? `: ${facts.done.toLocaleString()}` : ""}`, true);
    await new Promise((go) => { setTimeout(go, 500); });
  }
}

function layOut(facts) {
  return new Promise((done, failed) => {
    const worker = new Worker(map.dataset.layout, { type: "module" });
    worker.addEventListener("error", () => failed(new Error("this browser cannot lay out the map")));
    worker.addEventListener("message", ({ data }) => {
      if (data.done !== undefined) { bar.value = data.done; return; }
      worker.terminate();
      if (data.places) done(within(data.places)); else failed(new Error(data.error));
    });
    worker.postMessage({ points: facts.ids.length, nearest: facts.near, distances: numbers(facts.distances, Float32Array) });
  });
}

// Each axis from 0 to 1; the farthest hundredth lies at the border, so that a few do not press all others together.
function within(places) {
  const scaled = new Float32Array(places.length);
  for (const axis of [0, 1]) {
    const sorted = places.filter((_, at) => at % 2 === axis).sort();
    const least = sorted[Math.floor(sorted.length * 0.005)], most = sorted[Math.ceil(sorted.length * 0.995) - 1];
    for (let at = axis; at < places.length; at += 2) {
      scaled[at] = Math.min(1, Math.max(0, (places[at] - least) / (most - least || 1)));
    }
  }
  return scaled;
}

function place(at) {
  const margin = 12;
  return [
    margin + made.places[2 * at] * (canvas.clientWidth - 2 * margin),
    margin + made.places[2 * at + 1] * (canvas.clientHeight - 2 * margin),
  ];
}

function dot(context, at, radius) {
  context.beginPath();
  context.arc(...place(at), radius, 0, 2 * Math.PI);
}

function draw() {
  if (!made) return;
  const scale = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const colors = Array.from({ length: COLORS }, (_, number) => color(`--map-${number}`));
  const other = color("--map-other"), by = made.fields[field.value];
  for (let at = 0; at < made.ids.length; at++) {
    context.globalAlpha = lit.size && !lit.has(made.ids[at]) ? 0.15 : 0.75;
    context.fillStyle = by ? colors[by.of[at]] || other : colors[0];
    dot(context, at, 2.5);
    context.fill();
  }
  context.globalAlpha = 1;
  context.strokeStyle = color("--ink");
  for (let at = 0; at < made.ids.length; at++) {
    if (!lit.has(made.ids[at]) && at !== chosen) continue;
    context.lineWidth = at === chosen ? 3 : 1.5;
    dot(context, at, at === chosen ? 7 : 4.5);
    context.stroke();
  }
}

function legend() {
  const list = document.getElementById("map-legend"), by = made.fields[field.value];
  const names = by ? [...by.values, ...(by.of.includes(-1) ? ["other, or none"] : [])] : [];
  list.hidden = !by;
  list.replaceChildren(...names.map((name, number) => {
    const item = document.createElement("li");
    const mark = document.createElement("span");
    mark.className = `map-mark map-${number < by.values.length ? number : "other"}`;
    item.append(mark, name);
    return item;
  }));
}

function valueOf(at) {
  const by = made.fields[field.value];
  return by ? by.values[by.of[at]] || "other, or none" : "";
}

function pointed(event) {
  const box = canvas.getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  let found = -1, nearest = NEAR ** 2;
  for (let at = 0; at < made.ids.length; at++) {
    const [left, top] = place(at);
    const away = (left - x) ** 2 + (top - y) ** 2;
    if (away < nearest) [found, nearest] = [at, away];
  }
  return found;
}

function hover(event) {
  const at = made ? pointed(event) : -1;
  hint.hidden = at < 0;
  canvas.classList.toggle("over", at >= 0);
  if (at < 0) return;
  const [left, top] = place(at), value = valueOf(at);
  hint.textContent = `${made.ids[at]}${value ? ` · ${value}` : ""}\n${made.texts[at].slice(0, 200)}`;
  const width = Math.min(320, canvas.clientWidth);
  hint.style.width = `${width}px`;
  hint.style.left = `${Math.max(0, Math.min(left + 12, canvas.clientWidth - width))}px`;
  hint.style.top = `${top + 12}px`;
}

function link(at) {
  const anchor = document.createElement("a");
  anchor.href = map.dataset.message + encodeURIComponent(made.ids[at]).replaceAll("%2F", "/")
    + (map.dataset.pipeline ? `?pipeline=${encodeURIComponent(map.dataset.pipeline)}` : "");
  anchor.textContent = made.ids[at];
  return anchor;
}

function cell(row, content, scope) {
  const element = document.createElement(scope ? "th" : "td");
  if (scope) element.scope = scope;
  element.append(content);
  row.append(element);
}

function choose(at) {
  chosen = at;
  draw();
  document.getElementById("map-id").value = made.ids[at];
  const box = document.getElementById("map-chosen");
  const head = document.createElement("p"), text = document.createElement("p");
  head.append("Message ", link(at), valueOf(at) ? ` · ${valueOf(at)}` : "");
  text.className = "text";
  text.textContent = made.texts[at];
  box.replaceChildren(head, text, neighbours(at));
}

function neighbours(at) {
  const wide = document.createElement("div"), table = document.createElement("table");
  wide.className = "wide";
  const first = table.createTHead().insertRow(), body = table.createTBody();
  for (const name of ["neighbour", "similarity", "text"]) cell(first, name, "col");
  for (let each = at * made.count; each < (at + 1) * made.count; each++) {
    const row = body.insertRow(), near = made.near[each];
    cell(row, link(near), "row");
    cell(row, (1 - made.away[each]).toFixed(3));
    cell(row, made.texts[near].slice(0, 120));
  }
  wide.append(table);
  return wide;
}

async function nearestTo(words) {
  const answer = await fetch(`${map.dataset.hits}&q=${encodeURIComponent(words)}`, { headers: { Accept: "application/json" } });
  const facts = await answer.json();
  if (!answer.ok) throw new Error(facts.error.message || facts.error);
  return facts.ids;
}

async function lightUp(event) {
  event.preventDefault();
  const words = document.getElementById("q").value.trim();
  if (!made || !made.places) return;
  lit = new Set();
  say(drawn());
  if (words) {
    say("Searching", true);
    try {
      const ids = await nearestTo(words), here = new Set(made.ids);
      lit = new Set(ids.filter((id) => here.has(id)));
      say(`${lit.size} of the ${ids.length} rows that are nearest to the words are on the map.`);
      if (lit.size) choose(made.ids.indexOf([...lit][0]));
    } catch (error) {
      say(error.message);
    }
  }
  draw();
}

function drawn() {
  const all = made.ids.length === made.rows ? "all" : `of about ${made.rows.toLocaleString()}`;
  return `${made.ids.length.toLocaleString()} rows, ${all}.`;
}

function offer() {
  for (const name of Object.keys(made.fields)) field.append(new Option(name, name));
  const first = Object.keys(made.fields)[0];
  if (first) field.value = first;
  document.getElementById("map-ids").append(...made.ids.map((id) => new Option(id)));
  canvas.setAttribute("aria-label",
    `Map of ${made.ids.length} rows; the nearest neighbours of one that you choose stand in the table below`);
}

async function start() {
  try {
    const facts = await points();
    facts.near = numbers(facts.nearest, Int32Array);
    facts.away = numbers(facts.distances, Float32Array);
    made = facts;
    say("Laying out the map", true);
    facts.places = await layOut(facts);
  } catch (error) {
    made = null;
    say(error.message);
    return;
  }
  offer();
  document.querySelector("#map figure").hidden = false;
  say(drawn());
  legend();
  draw();
  new ResizeObserver(draw).observe(canvas.parentNode);
}

canvas.addEventListener("pointermove", hover);
canvas.addEventListener("pointerleave", () => { hint.hidden = true; });
canvas.addEventListener("click", (event) => {
  const at = made ? pointed(event) : -1;
  if (at >= 0) choose(at);
});
canvas.addEventListener("dblclick", (event) => {
  const at = made ? pointed(event) : -1;
  if (at >= 0) location.assign(link(at).href);
});
field.addEventListener("change", () => { legend(); draw(); });
document.getElementById("map-search").addEventListener("submit", lightUp);
document.getElementById("map-choose").addEventListener("submit", (event) => {
  event.preventDefault();
  const at = made && made.places ? made.ids.indexOf(document.getElementById("map-id").value.trim()) : -1;
  if (at >= 0) choose(at);
  else document.getElementById("map-chosen").textContent = "No row of the map has this id.";
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
start();
