// Sends files in parts. Each is digested first, so that the hub can say which parts it has already.
const form = document.querySelector("[data-upload]");
const list = form.querySelector("[data-list]");
const drop = form.querySelector("[data-drop]");
const send = form.querySelector("[data-send]");
const stop = form.querySelector("[data-stop]");
const message = form.querySelector("[data-message]");
const TRIES = 5;

const items = new Map(); // path -> {file, path, row, bar, state, sha256}
let running = null; // AbortController while sending

class Stopped extends Error {}

const words = (bytes) => {
  for (const [unit, step] of [["GB", 2 ** 30], ["MB", 2 ** 20], ["KB", 1024]]) if (bytes >= step) return `${(bytes / step).toFixed(1)} ${unit}`;
  return `${bytes} B`;
};

function add(file, path) {
  path = path.normalize("NFC");
  if (items.has(path)) items.get(path).row.remove();
  const row = document.createElement("li");
  const name = document.createElement("span");
  name.className = "file-name";
  name.textContent = `${path} (${words(file.size)})`;
  const state = document.createElement("span");
  state.className = "muted";
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "plain";
  remove.textContent = "×";
  remove.setAttribute("aria-label", `Leave out ${path}`);
  const bar = document.createElement("progress");
  bar.max = Math.max(file.size, 1);
  bar.value = 0;
  bar.setAttribute("aria-label", `Progress of ${path}`);
  row.append(name, state, remove, bar);
  list.append(row);
  const item = { file, path, row, bar, state, sha256: "" };
  remove.addEventListener("click", () => { if (!running) { items.delete(path); row.remove(); send.disabled = !items.size; } });
  items.set(path, item);
  send.disabled = false;
}

async function addEntry(entry, front = "") {
  if (entry.isFile) {
    add(await new Promise((resolve, reject) => entry.file(resolve, reject)), front + entry.name);
    return;
  }
  const reader = entry.createReader();
  for (;;) { // a reader hands out at most a hundred at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const each of some) await addEntry(each, `${front}${entry.name}/`);
  }
}

function withoutTop(path) { return path.split("/").slice(1).join("/"); }

async function dropped(event) {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((each) => each.webkitGetAsEntry?.());
  if (!entries.some(Boolean)) { for (const file of event.dataTransfer.files) add(file, file.name); return; }
  // One folder alone is the repository itself.
  const single = entries.length === 1 && entries[0].isDirectory;
  const before = new Set(items.keys());
  for (const entry of entries) await addEntry(entry);
  if (single) for (const [path, item] of [...items]) if (!before.has(path)) { items.delete(path); item.row.remove(); add(item.file, withoutTop(path)); }
}

async function ask(method, address, body, signal) {
  const headers = { "X-CSRF-Token": form.dataset.csrf };
  if (!(body instanceof Blob)) { headers["Content-Type"] = "application/json"; body = JSON.stringify(body); }
  const response = await fetch(address, { method, headers, body, signal });
  const content = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error([content.error, content.hint].filter(Boolean).join(": ") || `the hub answered ${response.status}`);
    error.final = response.status < 500 && response.status !== 429 && response.status !== 408;
    throw error;
  }
  return content;
}

async function patiently(act, signal) {
  for (let tried = 1; ; tried++) {
    try { return await act(); } catch (error) {
      if (signal.aborted) throw new Stopped();
      if (error.final || tried === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 400 * 2 ** tried));
    }
  }
}

function digest(item, signal) {
  if (item.sha256) return Promise.resolve(item.sha256);
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./sha256.js", import.meta.url), { type: "module" });
    const end = (act, value) => { worker.terminate(); act(value); };
    signal.addEventListener("abort", () => end(reject, new Stopped()));
    worker.addEventListener("error", () => end(reject, new Error("the file could not be read")));
    worker.addEventListener("message", ({ data }) => {
      if (data.digest) { item.sha256 = data.digest; end(resolve, data.digest); }
      else if (data.error) end(reject, new Error(data.error));
      else { item.bar.value = data.done; item.state.textContent = "checking"; }
    });
    worker.postMessage({ file: item.file });
  });
}

async function sendFile(item, where, signal) {
  const sha256 = await digest(item, signal);
  const announced = { path: item.path, sha256, size: item.file.size };
  const answer = await patiently(() => ask("POST", "/upload/begin", { ...where, file: announced }, signal), signal);
  if (!answer.done) {
    const step = answer.part_bytes, count = Math.max(1, Math.ceil(item.file.size / step)), have = new Set(answer.have);
    item.bar.value = have.size * step;
    item.state.textContent = have.size ? "going on" : "sending";
    for (let number = 1; number <= count; number++) {
      if (have.has(number)) continue;
      const part = item.file.slice((number - 1) * step, number * step);
      await patiently(() => ask("PUT", `/upload/${answer.ticket}/${number}`, part, signal), signal);
      item.bar.value = Math.min(item.file.size, number * step);
    }
    await patiently(() => ask("POST", `/upload/${answer.ticket}/finish`, {}, signal), signal);
  }
  item.bar.value = item.bar.max;
  item.state.textContent = answer.done ? "already here" : "sent";
  return announced;
}

async function sendAll() {
  running = new AbortController();
  const { signal } = running;
  const where = { repo: form.repo.value.trim(), kind: form.kind.value };
  stop.hidden = false;
  send.disabled = true;
  message.textContent = "";
  try {
    const files = [];
    for (const item of items.values()) files.push(await sendFile(item, where, signal));
    const made = await ask("POST", "/upload/commit", { ...where, files, title: form.title.value, private: form.private?.checked ?? false }, signal);
    running = null; // leaving is meant now
    location.assign(made.url);
  } catch (error) {
    message.textContent = error instanceof Stopped || signal.aborted ? "Paused. Send again to go on where it stopped." : `${error.message}. What arrived is kept: send again to go on.`;
  } finally {
    running = null;
    stop.hidden = true;
    send.disabled = !items.size;
  }
}

form.hidden = false;
for (const [kind, picker] of [["files", "[data-files]"], ["folder", "[data-folder]"]]) {
  const input = form.querySelector(picker);
  form.querySelector(`[data-pick="${kind}"]`).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    for (const file of input.files) add(file, file.webkitRelativePath ? withoutTop(file.webkitRelativePath) : file.name);
    input.value = "";
  });
}
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", dropped);
form.addEventListener("submit", (event) => { event.preventDefault(); if (!running) sendAll(); });
stop.addEventListener("click", () => running?.abort());
addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); });
