// The web page of classifier-svc: calls POST /v1/movies:classify while the user types, and shows the genres.

const TYPING_MS = 300;
// An explanation encodes every sentence, so it waits for a longer pause.
const TYPING_EXPLAINED_MS = 650;
const SPEAK_MS = 1200;
const CALL_MS = 30_000;
const ROWS_AT_LEAST = 5;
const NAMES_AT_MOST = 60;
const LONGEST_RETRY_MS = 60_000;

// Invented movies, each of one of these genres. A model of other labels gets no examples.
const GENRES_OF_EXAMPLES = ["Western", "Science Fiction", "Romance", "Animation", "Crime", "Documentary"];
const EXAMPLES = [
  ["Nine Miles to Mercy", "Marshal Ida Crane has nine miles of open desert between her prisoner and the courthouse. The man’s brothers ride out of the canyon with thirty rifles to take him back. By nightfall the town has bolted its doors, and only a drunken telegraph boy will stand beside her."],
  ["The Quiet Below", "Four hundred metres under the polar ice, a drilling crew breaks into a chamber that no map shows. The lights fail, and an alien creature that has slept since before mankind begins to hunt them through the tunnels. When the lift comes up empty for the third time, the last two understand that it has learned to call them by name."],
  ["Two Aunts and a Wedding Cake", "Olive plans weddings and has sworn never to have one. Then her two meddling aunts hire her rival, a hopeless and charming pastry chef, to bake for the biggest day of the season. Between collapsing sponges and a runaway groom, they fall for each other at every wrong moment."],
  ["Pip and the Lantern Whale", "Pip, a young puffin who is afraid of water, finds a whale that glows in the dark. To bring her home before winter, he and a bossy hermit crab set out across a sea of singing icebergs and grumpy walruses. It is a story about friendship, for everyone who ever stood at the edge and did not jump."],
  ["The Ledger of Small Cruelties", "A forger is found dead in a locked auction room, with a page torn out of her accounts. Inspector Varga knows that every bidder owed her money, and that one of them is a policeman. As the list of suspects shrinks, so does the list of people he can trust."],
  ["What the River Keeps", "Over six summers the filmmakers follow the last ferrymen of a delta that is turning to salt. In interviews, the families describe the floods, the dam and the young people who leave. Rare archive footage shows the same villages a hundred years ago, green to the horizon."],
];

const $ = (id) => document.getElementById(id);
const movie = $("movie"), title = $("title"), overview = $("overview"), answer = $("answer");
const list = $("genres"), notes = $("notes"), blank = $("blank"), more = $("more"), problem = $("problem");
const keyForm = $("key-form"), apiKey = $("api-key");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const rows = new Map();

const state = {
  key: "",          // kept in memory only, so it is gone when the page closes
  call: null,       // AbortController of the newest call
  timer: 0,
  shown: null,      // response on the page
  open: null,       // label of the genre whose explanation is open
  all: false,
  failures: 0,      // consecutive calls without a response
  version: null,    // version of the model in the footer
};

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const percent = (probability) => {
  const whole = Math.round(probability * 100);
  if (whole === 0 && probability > 0) return "<1%";
  return whole === 100 && probability < 1 ? ">99%" : `${whole}%`;
};
const points = (contribution) => {
  const whole = Math.round(contribution * 100);
  return whole === 0 ? "0" : `${whole > 0 ? "+" : "−"}${Math.abs(whole)}`;
};
const headers = () => (state.key ? { authorization: `Bearer ${state.key}` } : {});
const predicted = (score) => score.probability > score.threshold;
// Show a decimal if both round to the same percentage: "37%, above its threshold of 37%" would confuse.
const pair = ({ probability: p, threshold: t }) => (percent(p) === percent(t)
  ? [`${(p * 100).toFixed(1)}%`, `${(t * 100).toFixed(1)}%`] : [percent(p), percent(t)]);

// Calls

const request = () => ({ title: title.value.trim(), overview: overview.value });

function ask(delay) {
  clearTimeout(state.timer);
  state.call?.abort();
  state.call = null;
  if (!overview.value.trim()) return clear();
  state.timer = setTimeout(send, delay);
}

async function send() {
  clearTimeout(state.timer);
  const call = new AbortController();
  state.call?.abort();
  state.call = call;
  answer.setAttribute("aria-busy", "true");
  let late = false;
  const limit = setTimeout(() => { late = true; call.abort(); }, CALL_MS);
  const isNewest = () => state.call === call;
  const explain = state.open !== null;
  try {
    const response = await fetch("v1/movies:classify", {
      method: "POST",
      headers: { "content-type": "application/json", ...headers() },
      body: JSON.stringify({ ...request(), include_scores: true, explain }),
      signal: call.signal,
    });
    const body = await response.json().catch((error) => {
      if (call.signal.aborted) throw error;
      return null;
    });
    // A newer call may have started while this body arrived.
    if (!isNewest()) return;
    if (response.ok && body?.scores) show(body, explain);
    else fail(explainFailure(response, body ?? {}));
  } catch {
    if (isNewest()) fail(late ? explainFailure({ status: 504 }, {}) : unreachable());
  } finally {
    clearTimeout(limit);
    if (isNewest()) answer.setAttribute("aria-busy", "false");
  }
}

// Genres

function show(result, explained) {
  if (explained) result.explanation ??= { segments: [] };
  state.shown = result;
  state.failures = 0;
  fail(null);
  blank.hidden = true;
  $("key").hidden = false;
  if (result.model_version !== state.version) loadModel();
  showNotes(result);
  showRows(result);
  speak(summary(result));
  // The user opened a genre while this response was on its way.
  if (state.open !== null && !explained) send();
}

function clear() {
  state.shown = null;
  fail(null);
  answer.setAttribute("aria-busy", "false");
  list.replaceChildren();
  rows.clear();
  notes.replaceChildren();
  state.open = null;
  blank.hidden = false;
  $("key").hidden = more.hidden = true;
  speak("");
}

const byProbability = (a, b) => b.probability - a.probability;
function nearest(scores) {
  return scores.reduce((best, score) => (score.threshold - score.probability < best.threshold - best.probability ? score : best));
}

function showNotes(result) {
  const found = [];
  if (!result.genres.length) {
    const close = nearest(result.scores);
    const [probability, threshold] = pair(close);
    found.push(`No genre is above its threshold. The closest is ${close.label} at ${probability}; its threshold is ${threshold}.`);
  }
  if (result.truncated) found.push("The text is longer than the model reads, so its end was left out.");
  notes.replaceChildren(...found.map((text) => make("p", {}, text)));
}

function showRows(result) {
  const others = result.scores.filter((score) => !predicted(score)).sort(byProbability);
  const ordered = [...result.scores.filter(predicted).sort(byProbability), ...others];
  const count = ordered.length;
  const short = Math.max(ROWS_AT_LEAST, count - others.length);
  const places = new Map([...rows].map(([label, row]) => [label, row.item.getBoundingClientRect().top]));
  const focused = document.activeElement;

  ordered.forEach((score, place) => {
    const row = rows.get(score.label) ?? newRow(score.label);
    fillRow(row, score, result);
    row.item.hidden = !state.all && place >= short && score.label !== state.open;
    if (list.children[place] !== row.item) list.insertBefore(row.item, list.children[place] ?? null);
  });
  // Moving a node removes the focus from inside it.
  if (list.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });

  more.hidden = count <= short;
  more.textContent = state.all ? "Fewer" : `All ${count} genres`;
  more.setAttribute("aria-expanded", String(state.all));
  slide(places);
}

// Animate rows to their new places, so the eye can follow them.
function slide(places) {
  if (still.matches) return;
  for (const [label, { item }] of rows) {
    const from = places.get(label);
    const by = from - item.getBoundingClientRect().top;
    if (from && by && !item.hidden) item.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 300, easing: "cubic-bezier(.2,.7,.2,1)" });
  }
}

function newRow(label) {
  // Labels can be in any script, so their letters make no id.
  const id = `why-${rows.size}`;
  const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("span", { class: "fill" }), make("span", { class: "tick" }));
  const value = make("span", { class: "value" });
  const standing = make("span", { class: "unseen" });
  const asking = make("span", { class: "ask" });
  const button = make("button", { type: "button", class: "row", "aria-expanded": "false", "aria-controls": id },
    make("span", { class: "name" }, label), bar, value, standing, asking);
  const why = make("div", { id, class: "why", role: "group", "aria-label": `Why ${label}?`, hidden: "" });
  const item = make("li", { "data-genre": label }, button, why);
  button.addEventListener("click", () => toggle(label));
  const row = { item, button, bar, value, standing, asking, why };
  rows.set(label, row);
  return row;
}

function fillRow(row, score, result) {
  const over = predicted(score), open = state.open === score.label;
  const [probability, threshold] = pair(score);
  row.item.className = over ? "predicted" : "other";
  row.bar.style.setProperty("--p", score.probability);
  row.bar.style.setProperty("--t", score.threshold);
  row.value.textContent = percent(score.probability);
  row.standing.textContent = `${over ? "predicted, above" : "not above"} its threshold of ${threshold}. `;
  row.asking.textContent = open ? "Hide" : "Why?";
  row.button.setAttribute("aria-expanded", String(open));
  row.why.hidden = !open;
  if (open) showWhy(row.why, score, [probability, threshold], result.explanation);
}

function toggle(label) {
  state.open = state.open === label ? null : label;
  showRows(state.shown);
  if (state.open && !state.shown.explanation) send();
}

function showWhy(panel, score, [probability, threshold], explanation) {
  const verdict = make("p", { class: "verdict" }, predicted(score)
    ? `Predicted: ${probability} is above this genre’s threshold of ${threshold}.`
    : `Not predicted: ${probability} is not above this genre’s threshold of ${threshold}.`);
  if (!explanation) return panel.replaceChildren(verdict, make("p", { class: "small" }, "Classifying again without each sentence …"));
  if (!explanation.segments.length) return panel.replaceChildren(verdict, make("p", { class: "small" }, "There is only one sentence, so nothing can be left out for comparison."));

  const found = explanation.segments.map((segment) => ({
    segment,
    by: segment.contributions.find(({ label }) => label === score.label)?.contribution ?? 0,
  }));
  // Shades are relative to the strongest sentence; the floor keeps all light if none matters much.
  const most = Math.max(0.1, ...found.map(({ by }) => Math.abs(by)));
  panel.replaceChildren(
    verdict,
    make("p", { class: "small" }, "How many percentage points each sentence adds, measured by leaving it out."),
    make("ol", { class: "sentences" }, ...found.map(({ segment, by }) => sentence(segment, by, most))),
  );
}

function sentence({ source, text }, by, most) {
  const label = points(by);
  const shade = make("span", { class: `shade${source === "title" ? " from-title" : ""}` }, text.trim());
  shade.style.setProperty("--w", Math.min(1, Math.abs(by) / most));
  const said = make("span", { class: "points" }, label);
  if (source === "title") shade.prepend(make("span", { class: "unseen" }, "Title: "));
  // About one point is too little for a colour; the number still shows.
  const level = Math.abs(by) < 0.015;
  return make("li", { class: level ? "level" : by > 0 ? "for" : "against" }, said, make("span", { class: "text" }, shade));
}

// Screen reader

const summary = (result) => (result.genres.length
  ? `Predicted: ${result.genres.map(({ label, probability }) => `${label} ${percent(probability)}`).join(", ")}.`
  : "No genre is above its threshold.");

let speaking = 0;
function speak(text) {
  // Announce only what is unchanged after a pause, and never twice.
  clearTimeout(speaking);
  speaking = setTimeout(() => { if ($("spoken").textContent !== text) $("spoken").textContent = text; }, text ? SPEAK_MS : 0);
}

// Failures

function retryAfter(response, body) {
  const header = response.headers?.get("retry-after");
  const seconds = Number(header);
  const fromHeader = header && (Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now());
  const wait = Number(body.retry_after_ms ?? fromHeader);
  return Math.min(LONGEST_RETRY_MS, Math.max(500, wait || 2000));
}

const FIELDS = { title: "title", overview: "description" };
const WRONG = { EMPTY_TEXT: "is empty", TEXT_TOO_LONG: "is too long" };
function explainFailure(response, body) {
  const errors = body.errors ?? [];
  switch (response.status) {
    case 401: case 403:
      return { needsKey: true, what: state.key ? "This key is not accepted." : "This service requires an API key.", then: "Enter a valid key." };
    case 400: case 422: {
      const wrong = errors.map(({ field, reason, description }) => `The ${FIELDS[field] ?? field} ${WRONG[reason] ?? "is not accepted"} (${description}).`);
      return { fields: errors, what: wrong.join(" ") || "The service rejected the request.", then: wrong.length ? "Correct it to see the genres." : (body.detail ?? "") };
    }
    case 413: return { fields: [{ field: "overview" }], what: "The description is too long.", then: "Shorten it to see the genres." };
    case 429: return { retry: retryAfter(response, body), what: "Too many requests in a short time.", then: "The page tries again automatically." };
    case 503: return { retry: retryAfter(response, body), what: body.reason === "QUEUE_FULL" ? "The service is busy." : "Part of the service is unavailable.", then: "The page tries again automatically." };
    case 504: return { again: true, what: "The service took too long.", then: "It may be busy." };
    default: return { again: true, what: "The service could not answer.", then: `${body.detail ?? "It gave no reason"} (status ${response.status}). If this persists, check its log.` };
  }
}

function unreachable() {
  state.failures += 1;
  const retry = Math.min(30_000, 1000 * 2 ** state.failures);
  return { retry, what: "The service cannot be reached.", then: "Check that it is running and that you are online. The page tries again automatically." };
}

let counting = 0;
function fail(failure) {
  clearInterval(counting);
  problem.hidden = !failure;
  keyForm.hidden = !failure?.needsKey;
  answer.classList.toggle("stale", Boolean(failure));
  for (const field of [title, overview]) {
    const wrong = failure?.fields?.some((violation) => violation.field === field.id);
    for (const [name, value] of [["aria-invalid", "true"], ["aria-describedby", "problem-text"]]) {
      if (wrong) field.setAttribute(name, value);
      else field.removeAttribute(name);
    }
  }
  if (!failure) return $("problem-text").replaceChildren();

  const rest = failure.retry ? [countdown(failure.retry)] : [];
  if (failure.retry || failure.again) {
    const again = make("button", { type: "button", class: "quiet" }, failure.retry ? "Try now" : "Try again");
    again.addEventListener("click", send);
    rest.push(again);
  }
  $("problem-rest").replaceChildren(...rest);
  // Change the text only if it differs, so a screen reader does not repeat it at every attempt.
  const text = `${failure.what} ${failure.then}`;
  if ($("problem-text").textContent !== text) $("problem-text").replaceChildren(make("strong", {}, failure.what), ` ${failure.then}`);
}

function countdown(wait) {
  // Hidden from screen readers, which would read every second.
  const shown = make("p", { class: "small", "aria-hidden": "true" });
  const end = Date.now() + wait;
  const tick = () => { shown.textContent = `Next attempt in ${Math.max(1, Math.ceil((end - Date.now()) / 1000))} s`; };
  tick();
  counting = setInterval(tick, 250);
  clearTimeout(state.timer);
  state.timer = setTimeout(send, wait);
  return shown;
}

// Footer, themes and examples

async function loadModel() {
  try {
    const response = await fetch("v1/model", { headers: headers() });
    if (!response.ok) return;
    const model = await response.json();
    state.version = model.model_version;
    const f1 = model.metrics?.validation_micro_f1;
    $("model").replaceChildren("Model ", make("code", {}, model.model_version), ` on encoder ${model.encoder_id} ${model.encoder_version}`,
      f1 ? `, micro‑F1 ${f1.toFixed(3)} on the validation split` : "");
    document.querySelector(".examples").hidden = !GENRES_OF_EXAMPLES.some((genre) => model.labels.includes(genre));
    const names = [...model.labels].sort((a, b) => a.localeCompare(b, "en"));
    const others = names.length - NAMES_AT_MOST;
    blank.replaceChildren(...names.slice(0, NAMES_AT_MOST).flatMap((name, i) => [i ? " · " : "", make("span", {}, name)]),
      others > 0 ? ` and ${others} more` : "");
  } catch {
    // Leave the footer as it is; the next call reports that the service is unreachable.
  }
}

function showCommand() {
  const movie = overview.value.trim() ? request() : { title: "Reef", overview: "A documentary about the death of a coral reef." };
  const body = JSON.stringify(movie, null, 1).replaceAll("'", "'\\''");
  const auth = state.key ? " \\\n  -H \"authorization: Bearer $API_KEY\"" : "";
  $("command").textContent = `curl ${new URL("v1/movies:classify", document.baseURI)}${auth} \\\n  -H 'content-type: application/json' \\\n  -d '${body}'`;
}

function setUpThemes() {
  const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  for (const radio of $("themes").querySelectorAll("input")) {
    radio.checked = radio.value === (stored ?? "auto");
    radio.addEventListener("change", () => {
      apply(radio.value);
      try { localStorage.setItem("theme", radio.value); } catch { /* switch even if the browser stores nothing */ }
    });
  }
  if (["light", "dark"].includes(stored)) apply(stored);
  $("themes").hidden = false;
}

function setUpExamples() {
  for (const [name, text] of EXAMPLES) {
    const button = make("button", { type: "button", "aria-pressed": "false" }, name);
    button.addEventListener("click", () => {
      title.value = name;
      overview.value = text;
      changed();
      ask(0);
    });
    $("reel").append(button);
  }
}

function changed() {
  for (const [i, button] of [...$("reel").querySelectorAll("button")].entries()) {
    button.setAttribute("aria-pressed", String(title.value === EXAMPLES[i][0] && overview.value === EXAMPLES[i][1]));
  }
  showCommand();
}

movie.addEventListener("input", () => {
  changed();
  ask(state.open === null ? TYPING_MS : TYPING_EXPLAINED_MS);
});
movie.addEventListener("submit", (event) => { event.preventDefault(); ask(0); });
overview.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask(0); });
more.addEventListener("click", () => { state.all = !state.all; showRows(state.shown); });
keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  state.key = apiKey.value.trim();
  apiKey.value = "";
  changed();
  loadModel();
  ask(0);
});

setUpThemes();
setUpExamples();
changed();
$("program").hidden = false;
loadModel();
// Browsers may restore the text after a reload.
if (overview.value.trim()) ask(0);
