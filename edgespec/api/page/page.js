"use strict";
// The page: a chat that shows where each token came from, and what edge, link and cloud do meanwhile.

const $ = (id) => document.getElementById(id);
const WINDOW_MS = 2000;
const LANES = { edge: "edge drafts", up: "link up", down: "link down", cloud: "cloud verifies" };
const COLOURS = { draft: "--draft", block: "--accent", hint: "--hint", verdict: "--accent", forward: "--guess" };
const messages = [];
let running = null; // the AbortController of the text that is being written
let events = [];
let losses = 0;

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function show(role, text) {
  const box = element("div", `message ${role}`, "");
  box.append(element("span", "who", role), element("span", "committed", text), element("span", "provisional", ""));
  $("log").append(box);
  $("log").scrollTop = $("log").scrollHeight;
  return box;
}

function note(text) {
  $("notes").prepend(element("li", "", text));
  while ($("notes").children.length > 20) $("notes").lastChild.remove();
  if (text.startsWith("lost the link")) $("losses").textContent = ++losses;
}

function headers() {
  const key = $("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function connect() {
  try {
    const answer = await fetch("v1/models", { headers: headers() });
    $("key-label").hidden = answer.status !== 401 && !$("key").value;
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    const model = (await answer.json()).data[0];
    $("state").textContent = `model ${model.id}`;
    $("mode").replaceChildren(...model.edgespec.modes.map((mode) => new Option(mode)));
    document.body.dataset.offline = model.edgespec.offline;
  } catch (error) {
    $("state").textContent = error.message;
  }
}

// Server-sent events of a fetch: EventSource cannot post.
async function* read(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.slice(part.indexOf("data: ") + 6);
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

async function write() {
  const box = show("assistant", "");
  const parts = { committed: box.querySelector(".committed"), provisional: box.querySelector(".provisional") };
  const text = { content: "", tokens: 0, accepted: 0, startMs: 0, parts };
  running = new AbortController();
  working(true);
  try {
    const answer = await fetch("v1/chat/completions", {
      method: "POST", headers: headers(), signal: running.signal,
      body: JSON.stringify({
        messages, stream: true, temperature: Number($("temperature").value), max_tokens: Number($("tokens").value),
        edgespec: { mode: $("mode").value, timeline: true, offline: document.body.dataset.offline === "true" },
      }),
    });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    for await (const chunk of read(answer)) {
      if (chunk.error) throw new Error(chunk.error.message);
      take(chunk, text);
    }
  } catch (error) {
    if (error.name !== "AbortError") box.append(element("p", "error", error.message));
  } finally {
    parts.provisional.textContent = "";
    messages.push({ role: "assistant", content: text.content });
    running = null;
    working(false);
    $("prompt").focus();
  }
}

function take(chunk, text) {
  const delta = chunk.choices[0]?.delta.content ?? "";
  const more = chunk.edgespec ?? {};
  const atEnd = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 40;
  let at = 0;
  for (const [length, source] of more.spans ?? [[delta.length, "target"]]) {
    if (length) text.parts.committed.append(element("span", source, delta.slice(at, at + length)));
    at += length;
    if (source === "draft" || source === "hint") text.accepted++;
  }
  text.content += delta;
  if (more.standing !== undefined) text.parts.provisional.textContent = more.standing;
  (more.notes ?? []).forEach(note);
  if (more.revised) note(`${more.revised} provisional tokens were replaced`);
  events.push(...(more.events ?? []));
  figures(text, more);
  if (atEnd) $("log").scrollTop = $("log").scrollHeight;
}

function figures(text, more) {
  const now = performance.now();
  if (!text.startMs) text.startMs = now;
  else text.tokens += more.tokens ?? 0; // the first step's tokens come with no time before them
  const seconds = (now - text.startMs) / 1000;
  if (seconds > 0.1) $("speed").textContent = `${(text.tokens / seconds).toFixed(1)} tokens/s`;
  if (more.forward_ms) $("cloud").textContent = `${(1000 / more.forward_ms).toFixed(1)} tokens/s`;
  if (text.tokens) $("accepted").textContent = `${Math.round((100 * text.accepted) / text.tokens)} % of the text`;
  if (more.rtt_ms) $("rtt").textContent = `${more.rtt_ms.toFixed(1)} ms`;
  draw();
}

function draw() {
  const canvas = $("timeline"), scale = devicePixelRatio || 1, width = canvas.clientWidth, height = 170;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const probe = document.createElement("span");
  document.body.append(probe);
  const colour = (name) => ((probe.style.color = `var(${name})`), getComputedStyle(probe).color);
  pen.scale(scale, scale);
  const end = events.reduce((last, one) => Math.max(last, one.end_ms), 0);
  events = events.filter((one) => one.end_ms > end - WINDOW_MS);
  pen.font = `11px ${style.fontFamily || "sans-serif"}`;
  Object.entries(LANES).forEach(([lane, label], row) => {
    const top = 14 + row * 40;
    pen.fillStyle = colour("--dim");
    pen.fillText(label, 4, top);
    for (const one of events.filter((event) => event.lane === lane)) {
      const left = width * (1 - (end - one.start_ms) / WINDOW_MS), right = width * (1 - (end - one.end_ms) / WINDOW_MS);
      pen.fillStyle = colour(COLOURS[one.kind] ?? "--dim");
      pen.fillRect(left, top + 4, Math.max(1.5, right - left), 16);
    }
  });
  probe.remove();
}

function working(busy) {
  $("send").disabled = busy;
  $("stop").disabled = !busy;
}

function send() {
  const prompt = $("prompt").value.trim();
  if (!prompt || running) return;
  $("prompt").value = "";
  messages.push({ role: "user", content: prompt });
  show("user", prompt);
  write();
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("stop").addEventListener("click", () => running?.abort());
$("clear").addEventListener("click", () => {
  running?.abort();
  messages.length = 0;
  $("log").replaceChildren();
  $("prompt").focus();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "light dark"
    ? matchMedia("(prefers-color-scheme: dark)").matches
    : document.documentElement.dataset.theme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  draw();
});
$("key").addEventListener("change", connect);
connect();
draw();
