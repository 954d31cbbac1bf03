"use strict";

// Milliseconds between two looks; a tab that nobody sees does not look.
const PAUSE = 2000;
const KEY = "lmaas-key";
const TOP = 5;

const by = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat();

// --- requests -------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { ...options, headers });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const message = body.error?.message ?? `${answer.status} ${answer.statusText}`;
    // Not for an answer to a key that has been replaced meanwhile.
    if (answer.status === 401 && key === sessionStorage.getItem(KEY)) askForKey(key ? message : "");
    throw new Refused(answer.status, message);
  }
  return body;
}

function askForKey(words) {
  sessionStorage.removeItem(KEY);
  by("leave").hidden = true;
  if (words) {
    by("key-words").textContent = words;
    by("key-words").className = "bad";
  }
  if (!by("key-form").hidden) return;
  by("key-form").hidden = false;
  by("key").focus();
}

by("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, by("key").value.trim());
  by("key").value = "";
  by("key-form").hidden = true;
  start();
});

by("leave").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});

// --- words ----------------------------------------------------------------------------------------

function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return seconds ? `${Math.round(seconds * 1000)} ms` : "0 s";
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

function count(number, digits = 0) {
  if (number === null || number === undefined) return "–";
  return numbers.format(Number(number.toFixed(number < 100 ? digits : 0)));
}

function moment(milliseconds) {
  if (!milliseconds) return "–";
  const then = new Date(milliseconds);
  const today = then.toDateString() === new Date().toDateString();
  return today ? then.toLocaleTimeString() : then.toLocaleString();
}

function make(name, text, properties = {}) {
  const node = Object.assign(document.createElement(name), properties);
  if (text !== undefined) node.textContent = text;
  return node;
}

// --- tables ---------------------------------------------------------------------------------------

// Rows are kept by their key, so that nothing which has the focus goes away under it. A cell is a
// text, or a function that changes the cell (which is empty at first).
function fill(id, rows) {
  const table = by(id);
  const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const body = table.tBodies[0];
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  table.hidden = rows.length === 0;
  rows.forEach(({ key, cells, kind = "" }, place) => {
    const row = old.get(key) ?? newRow(key, cells, labels);
    old.delete(key);
    if (row.className !== kind) row.className = kind;
    cells.forEach((cell, column) => {
      const node = row.cells[column];
      if (typeof cell === "function") cell(node);
      else if (node.textContent !== cell) node.textContent = cell;
    });
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
  });
  for (const row of old.values()) row.remove();
}

function newRow(key, cells, labels) {
  const row = make("tr");
  row.dataset.key = key;
  cells.forEach((_, column) => {
    const cell = make("td");
    cell.dataset.label = labels[column];
    row.append(cell);
  });
  if (cells.length === 1) row.replaceChildren(make("th", "", { colSpan: labels.length, scope: "rowgroup" }));
  return row;
}

function note(name, text, bad = false) {
  const node = document.querySelector(`[data-note="${name}"]`);
  if (node.textContent !== text) node.textContent = text;
  node.classList.toggle("bad", bad);
}

// --- panels ---------------------------------------------------------------------------------------

let deadLetters = null;

async function showLanes() {
  const { lanes, dead_letters: dead } = await call("v1/lanes");
  const rows = [];
  for (const lane of lanes) {
    if (rows.at(-1)?.model !== lane.model) {
      rows.push({ key: lane.model, model: lane.model, kind: "model", cells: [lane.model] });
    }
    const { model } = lane;
    const idle = !lane.depth && !lane.rate;
    const cells = [lane.lane, count(lane.depth), time(lane.age), count(lane.rate, 1), count(lane.consumers)];
    rows.push({ key: `${model}/${lane.lane}`, model, kind: idle ? "idle" : "", cells });
  }
  fill("lanes", rows);
  const forsaken = lanes.some((lane) => lane.depth && !lane.consumers);
  if (forsaken) note("lanes", "Packs wait in a lane that no worker takes from.", true);
  else note("lanes", rows.length ? "Packs by model and lane; a pack has one or more items." : "No worker has been seen yet.");
  await showModels(new Set(lanes.map((lane) => lane.model)));
  if (dead !== deadLetters) {
    deadLetters = dead;
    by("dead-count").textContent = dead ? `(${count(dead)})` : "";
    await showDead().catch((error) => note("dead", error.message, error.status !== 403));
  }
}

async function showWorkers() {
  const { workers } = await call("v1/workers");
  fill("workers", workers.map((one) => ({
    key: one.worker,
    cells: [
      one.worker,
      Object.entries(one.models).map(([model, version]) => `${model} ${version}`).join(", "),
      one.problem ?? "works",
      count(one.running),
      count(one.held),
    ],
  })));
  note("workers", workers.length ? "" : "No worker answers. Start one with lmaas worker.", !workers.length);
}

async function showJobs() {
  if (by("jobs-panel").hidden) return;
  let answer;
  try {
    answer = await call("v1/jobs");
  } catch (error) {
    if (error.status !== 404) throw error;
    by("jobs-panel").hidden = true; // this gateway has no jobs
    return;
  }
  fill("jobs", answer.jobs.map((job) => ({
    key: job.id,
    cells: [
      job.id,
      job.model,
      job.reason ? `${job.state}: ${job.reason}` : job.state,
      (cell) => progress(cell, job),
      job.rate === null ? "–" : `${count(job.rate, 1)}/s`,
      time(job.seconds_left),
      job.failed ? `${count(job.failed)}, first: ${job.errors[0]?.error.message ?? ""}` : "0",
    ],
  })));
  note("jobs", answer.jobs.length ? (answer.next ? "The newest; GET /v1/jobs has the others." : "") : "No jobs.");
}

function progress(cell, job) {
  if (!cell.firstChild) {
    const box = make("div");
    box.append(make("progress"), make("div"));
    cell.append(box);
  }
  const [bar, words] = cell.firstChild.children;
  bar.max = job.items || 1;
  bar.setAttribute("aria-label", `Progress of job ${job.id}`);
  if (job.items === null) bar.removeAttribute("value");
  else bar.value = job.items ? job.done : 1;
  words.textContent = `${count(job.done)} of ${job.items === null ? "?" : count(job.items)}`;
}

async function showDead() {
  const { dead_letters: found, more } = await call("v1/dead-letters");
  fill("dead", found.map((one) => ({
    key: one.id,
    cells: [
      moment(one.parked_ms),
      one.model ?? "–",
      [one.error, one.reason].filter(Boolean).join(": ") || "unknown",
      count(one.items),
      count(one.attempts),
      one.job ?? "–",
      (cell) => actions(cell, one),
    ],
  })));
  note("dead", found.length ? (more ? "The oldest ones; lmaas dead list has the others." : "") : "None.");
}

function actions(cell, letter) {
  if (cell.firstChild) return;
  const box = make("div", undefined, { className: "row" });
  const what = `${letter.model ?? "unknown model"}, ${letter.error ?? "unknown reason"}, ${letter.id.slice(0, 8)}`;
  const again = make("button", "Replay", { type: "button", className: "quiet" });
  again.setAttribute("aria-label", `Replay ${what}`);
  again.addEventListener("click", () => settle(box, letter, `${path(letter)}/replay`, "POST", "sent again"));
  const drop = make("button", "Drop", { type: "button", className: "quiet" });
  drop.setAttribute("aria-label", `Drop ${what}`);
  const calm = () => {
    drop.className = "quiet";
    drop.textContent = "Drop";
  };
  drop.addEventListener("click", () => {
    if (drop.className === "sure") return settle(box, letter, path(letter), "DELETE", "dropped");
    drop.className = "sure";
    drop.textContent = "Drop for good?";
    return undefined;
  });
  drop.addEventListener("blur", calm);
  box.append(again, drop);
  cell.append(box);
}

const path = (letter) => `v1/dead-letters/${encodeURIComponent(letter.id)}`;

async function settle(box, letter, where, method, words) {
  for (const button of box.children) button.disabled = true;
  try {
    await call(where, { method });
    await showDead();
    note("dead", `${letter.id.slice(0, 8)} was ${words}.`);
    by("dead-title").focus();
  } catch (error) {
    for (const button of box.children) button.disabled = false;
    note("dead", error.message, true);
  }
}

by("dead-refresh").addEventListener("click", () => {
  showDead().catch((error) => note("dead", error.message, true));
});

async function showFailures() {
  const { failures } = await call("v1/failures");
  fill("failures", failures.slice(0, 20).map((one) => ({
    key: `${one.at} ${one.model} ${one.id} ${one.code}`,
    cells: [moment(one.at * 1000), one.model, one.id || "the pack", `${one.code}: ${one.message}`],
  })));
  note("failures", failures.length ? "" : "No item of a call has failed since this gateway began.");
}

// --- a text ---------------------------------------------------------------------------------------

let cards = new Map();

// Workers are asked for cards only when there is a model that we have no card of.
async function showModels(served) {
  if (cards.size && [...served].every((model) => cards.has(model))) return;
  const { models } = await call("v1/models");
  cards = new Map(models.map((card) => [card.model, card]));
  const names = [...cards.keys()];
  const select = by("model");
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => make("option", name, { value: name })));
  if (cards.has(chosen)) select.value = chosen;
}

by("example").addEventListener("click", () => {
  const texts = (cards.get(by("model").value)?.examples ?? []).map((item) => item.text).filter(Boolean);
  const next = texts[(texts.indexOf(by("text").value) + 1) % texts.length];
  if (next) by("text").value = next;
});

by("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  try {
    const body = JSON.stringify({ model: by("model").value, items: [by("text").value], top_k: TOP });
    const headers = { "Content-Type": "application/json" };
    const answer = await call("v1/classify", { method: "POST", body, headers });
    if (answer.results) showAnswer(answer.results[0]);
    else by("answer").replaceChildren(make("p", `It takes longer: see job ${answer.id}.`));
  } catch (error) {
    by("answer").replaceChildren(make("p", error.message, { className: "bad" }));
  }
  button.disabled = false;
  button.focus();
});

function showAnswer(result) {
  if (result.error) {
    by("answer").replaceChildren(make("p", `${result.error.code}: ${result.error.message}`, { className: "bad" }));
    return;
  }
  const percent = (score) => `${(score * 100).toFixed(1)} %`;
  const name = result.labels ? result.labels.join("; ") || "no label" : result.label;
  const label = make("p", `${name} · ${percent(result.score)}`, { className: "label" });
  const scores = make("div", undefined, { className: "scores" });
  for (const [name, score] of Object.entries(result.scores ?? {})) {
    const bar = make("meter", undefined, { value: score });
    bar.setAttribute("aria-label", name);
    scores.append(make("span", name), bar, make("span", percent(score)));
  }
  by("answer").replaceChildren(label, scores);
}

by("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) by("try").requestSubmit();
});

// --- looking --------------------------------------------------------------------------------------

const PANELS = { lanes: showLanes, workers: showWorkers, jobs: showJobs, failures: showFailures };
let looking = false;

async function look() {
  const troubles = [];
  await Promise.all(Object.entries(PANELS).map(async ([name, show]) => {
    try {
      await show();
    } catch (error) {
      troubles.push(error);
      if (error.status === 403) note(name, error.message);
    }
  }));
  const worst = troubles.find((error) => error.status !== 403);
  by("state").textContent = worst ? (worst.status ? worst.message : "The gateway does not answer.") : "Live";
  by("state").classList.toggle("bad", Boolean(worst));
  by("leave").hidden = !sessionStorage.getItem(KEY);
}

async function start() {
  if (looking) return;
  looking = true;
  while (!document.hidden && by("key-form").hidden) {
    await look();
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  looking = false;
}

document.addEventListener("visibilitychange", start);
start();
