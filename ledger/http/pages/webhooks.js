// The page of webhook endpoints: a client of /v1/webhooks and nothing more. The key is held in a variable of this file.
"use strict";

const STATUSES = ["QUEUED", "SENT", "DELIVERED", "READ", "DELETED", "FAILED"];

const SURE = "Really delete it, and all about what was sent?";

let key = "";
let shown = null; // the endpoint that is looked at
let cursor = null; // of the next page of its deliveries

const at = (id) => document.getElementById(id);

// Nothing that comes from the API is ever read as HTML.
function element(name, text = "", action = null) {
  const made = document.createElement(name);
  made.textContent = text;
  if (action !== null) {
    made.type = "button";
    made.addEventListener("click", () => attempt(action));
  }
  return made;
}

function row(body, cells) {
  const made = document.createElement("tr");
  const titles = body.parentElement.tHead.rows[0].cells;
  for (const [number, cell] of cells.entries()) {
    const place = document.createElement("td");
    place.dataset.title = titles[number].textContent; // shown beside the cell where there is no room for columns
    place.append(...[cell].flat());
    made.append(place);
  }
  body.append(made);
}

function say(text, isWrong = false) {
  at("message").textContent = text;
  at("message").className = isWrong ? "wrong" : "";
}

async function call(method, path, body) {
  const options = { method, headers: { "X-Octopods-Auth": key } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const told = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(told.detail || told.title);
  return told;
}

async function attempt(action) {
  try {
    say("");
    await action();
  } catch (error) {
    say(error.message, true);
  }
}

const time = (text) => (text === null ? "–" : new Date(text).toLocaleString());

function stateOf(endpoint) {
  if (!endpoint.enabled) return `disabled (${endpoint.disabled_reason})`;
  return endpoint.failures ? `failing (${endpoint.failures} in a row)` : "enabled";
}

// Endpoints -----------------------------------------------------------------------------------------------------------

async function list() {
  const { items } = await call("GET", "/v1/webhooks");
  const body = at("endpoints").querySelector("tbody");
  body.replaceChildren();
  for (const each of items) {
    const address = each.description ? [element("div", each.url), element("small", each.description)] : each.url;
    const statuses = each.statuses === null ? "all" : each.statuses.join(", ");
    row(body, [address, stateOf(each), statuses, element("button", "Open", () => open(each.id))]);
  }
  at("none").hidden = items.length > 0;
  at("signed-in").hidden = false;
}

async function make() {
  const ticked = STATUSES.filter((status) => at(`status-${status}`).checked);
  const told = { url: at("url").value, description: at("description").value };
  if (ticked.length) told.statuses = ticked;
  const made = await call("POST", "/v1/webhooks", told);
  at("new").reset();
  showSecret(made.secret);
  await list();
  await open(made.id);
}

function showSecret(secret) {
  at("secret-text").textContent = secret;
  at("secret").hidden = false;
}

async function open(id) {
  shown = await call("GET", `/v1/webhooks/${id}`);
  at("endpoint-title").textContent = shown.url;
  const counts = Object.entries(shown.deliveries).map(([state, count]) => `${count} ${state}`);
  const facts = [
    ["State", stateOf(shown)],
    ["Deliveries", counts.join(", ")],
    ["Last success", time(shown.last_succeeded_at)],
    ["Failing since", time(shown.failing_since)],
    ["Secrets in use", String(shown.secrets.length)],
    ["Made", time(shown.created_at)],
  ];
  at("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  at("toggle").textContent = shown.enabled ? "Disable" : "Enable";
  at("delete").textContent = "Delete";
  at("endpoint").hidden = false;
  at("log").hidden = true;
  await Promise.all([deliveries(true), notices()]);
}

async function toggle() {
  await call("PATCH", `/v1/webhooks/${shown.id}`, { enabled: !shown.enabled });
  await Promise.all([list(), open(shown.id)]);
}

async function rotate() {
  const made = await call("POST", `/v1/webhooks/${shown.id}/secrets`, {});
  showSecret(made.secret);
  await open(shown.id);
}

async function remove() {
  if (at("delete").textContent !== SURE) {
    at("delete").textContent = SURE;
    return;
  }
  await call("DELETE", `/v1/webhooks/${shown.id}`);
  at("endpoint").hidden = true;
  await list();
}

// Deliveries ----------------------------------------------------------------------------------------------------------

async function deliveries(isFirst) {
  const asked = new URLSearchParams({ limit: "25" });
  if (at("state").value) asked.set("state", at("state").value);
  if (!isFirst && cursor !== null) asked.set("cursor", cursor);
  const page = await call("GET", `/v1/webhooks/${shown.id}/deliveries?${asked}`);
  const body = at("deliveries").querySelector("tbody");
  if (isFirst) body.replaceChildren();
  for (const each of page.items) {
    const state = each.why ? `${each.state} (${each.why})` : each.state;
    const buttons = [element("button", "Log", () => log(each.id)), element("button", "Send again", () => resend(each.id))];
    const told = [each.message_id ?? "–", each.version ?? "–", each.status, state, each.attempts];
    row(body, [...told.map(String), time(each.recorded_at), buttons]);
  }
  cursor = page.next_cursor;
  at("more").hidden = cursor === null;
}

async function log(id) {
  const told = await call("GET", `/v1/webhooks/${shown.id}/deliveries/${id}`);
  at("log-title").textContent = `Attempts of ${told.webhook_id}`;
  const body = at("log").querySelector("tbody");
  body.replaceChildren();
  for (const each of told.log) {
    const took = `${each.milliseconds} ms`;
    row(body, [String(each.number), time(each.attempted_at), took, each.outcome, String(each.answer ?? "–"), each.body]);
  }
  at("log").hidden = false;
}

async function resend(id) {
  await call("POST", `/v1/webhooks/${shown.id}/deliveries/${id}/resend`, {});
  await open(shown.id);
  say("It is sent again.");
}

async function recover() {
  const since = new Date(at("since").value).toISOString();
  let count = 0;
  for (;;) {
    const told = await call("POST", `/v1/webhooks/${shown.id}/recover`, { since });
    count += told.count;
    if (told.complete) break;
  }
  await open(shown.id);
  say(`${count} to be sent.`);
}

async function notices() {
  const { items } = await call("GET", `/v1/webhooks/${shown.id}/notices`);
  const lines = items.map((each) => element("li", [time(each.noticed_at), each.what, each.why].filter(Boolean).join(" · ")));
  at("notices").replaceChildren(...(lines.length ? lines : [element("li", "None.")]));
}

// Wiring --------------------------------------------------------------------------------------------------------------

function onSubmit(id, action) {
  at(id).addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(action);
  });
}

for (const status of STATUSES) {
  const label = element("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.id = `status-${status}`;
  label.append(box, ` ${status}`);
  at("statuses").append(label);
}
onSubmit("sign-in", async () => {
  key = at("key").value.trim();
  await list();
  at("sign-in").hidden = true;
});
onSubmit("new", make);
onSubmit("recover", recover);
at("toggle").addEventListener("click", () => attempt(toggle));
at("rotate").addEventListener("click", () => attempt(rotate));
at("delete").addEventListener("click", () => attempt(remove));
at("more").addEventListener("click", () => attempt(() => deliveries(false)));
at("state").addEventListener("change", () => attempt(() => deliveries(true)));
