// What the server does now, and has done in the last hours.

import { at, get, isMissing } from "./api.js";
import { h, loading, table } from "./dom.js";
import { clock, counted, duration, moment, number, size } from "./format.js";
import { jobRow } from "./jobs.js";
import { Plot } from "./plot.js";
import { poll } from "./polling.js";
import { Trouble, problem } from "./problems.js";

/** Days before its end from which on a certificate is of concern. */
const SOON = 30;

const HOURS = [1, 3, 6, 12, 24];

const whole = (value) => number(value);
whole.whole = true;
const bytes = (value) => size(value);
bytes.whole = true;

const RATES = [
  ["stored", "Instances stored", whole],
  ["bytes", "Data stored", bytes],
  ["queries", "Queries", whole],
  ["retrieved", "Instances sent", whole],
  ["failed", "Failed operations", whole, true],
];

/**
 * A part of the page that keeps itself up to date. What was shown stays, with
 * its age, when it cannot be brought up to date.
 */
function part(title, what, seconds, { signal, trouble }, load) {
  const content = h("div", {}, loading(what));
  const failed = h("div", {});
  const element = h("section", { class: "panel" }, h("h2", {}, title), failed, content);
  // These concern the whole server: no answer, no token, and too many wrong ones.
  const isCommon = (error) => [0, 401, 429].includes(error.status);
  let loadedAt = null;
  const again = poll(seconds, async () => {
    try {
      const shown = await load();
      if (shown) content.replaceChildren(shown);
      loadedAt = new Date();
      failed.replaceChildren();
      trouble.remove(element);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (isMissing(error)) {
        content.replaceChildren(h("p", { class: "muted" }, "Not available on this server."));
        return false;
      }
      if (!loadedAt) content.replaceChildren();
      if (isCommon(error)) trouble.add(element, error, () => again());
      else trouble.remove(element);
      // Said once, and not again with each attempt.
      if (!failed.firstChild) {
        const since = loadedAt ? h("p", { class: "muted asof" }, `As of ${clock(loadedAt)}:`) : null;
        failed.replaceChildren(...[isCommon(error) ? null : problem(error, () => again()), since].filter(Boolean));
      }
    }
    return true;
  }, signal);
  return element;
}

function state(good, words) {
  return h("span", { class: good ? "state good" : "state bad" }, words);
}

function status(data) {
  const { counts, database, disk } = data;
  const used = disk.total ? 1 - disk.free / disk.total : 0;
  const meter = h("meter", {
    min: "0", max: "1", high: "0.9", optimum: "0", value: used.toFixed(3),
    "aria-label": `${Math.round(used * 100)} % of the disk is in use`,
  });
  return h("div", { class: "tiles" },
    tile("Associations", number(data.associations.live), `live now, ${number(data.associations.accepted)} since the start`),
    counts
      ? tile("Studies", number(counts.studies), `of ${counted(counts.patients, "patient")}`)
      : tile("Studies", "–", "not known while the database is away"),
    counts ? tile("Instances", number(counts.instances), `in ${counted(counts.series, "series", "series")}, ${size(counts.size)}`) : null,
    tile("Disk free", disk.low ? state(false, size(disk.free)) : size(disk.free),
      disk.low
        ? `of ${size(disk.total)}: too little, nothing is stored below ${size(disk.min_free)}`
        : `of ${size(disk.total)}, ${Math.round(used * 100)} % in use`, meter),
    tile("Database", state(database.available, database.available ? "Available" : "Away"),
      `PostgreSQL ${database.version ?? ""}, ${database.kind}, schema ${database.schema}`),
    data.certificates.map((one) => tile("Certificate",
      state(one.days_left >= SOON, one.days_left >= 0 ? counted(one.days_left, "day") : "Expired"),
      `${one.use}, ${one.subject}, until ${one.expires.slice(0, 10)}`)),
    tile("Server", data.ae_title, `D360 ${data.version}, up ${duration(data.uptime_seconds)}`));
}

function tile(name, value, detail, more) {
  return h("div", { class: "tile" },
    h("h3", {}, name), h("p", { class: "value" }, value), more, h("p", { class: "muted" }, detail));
}

const doing = (one) => one.operation?.name ?? one.operation ?? "";

function associations({ associations: live }) {
  if (!live.length) return h("p", { class: "muted" }, "Nobody is connected.");
  const now = Date.now();
  return table("Associations", [
    { name: "Caller", header: true, cell: (one) => one.calling },
    { name: "Calls", cell: (one) => one.called },
    { name: "From", cell: (one) => one.peer },
    { name: "For", number: true, cell: (one) => duration((now - new Date(one.since)) / 1000) },
    { name: "Doing", cell: (one) => doing(one) || "waiting" },
  ], live).element;
}

function errors({ errors: last }) {
  if (!last.length) return h("p", { class: "muted" }, "No errors or warnings since the start.");
  return h("ul", { class: "log" }, last.slice(0, 20).map((one) => h("li", {},
    h("time", {}, moment(one.time)),
    h("span", { class: `level ${one.level === "warn" ? "warn" : "error"}` },
      one.level === "warn" ? "warning" : one.level),
    h("span", { class: "words" }, one.text))));
}

function rates(signal) {
  const plots = new Map(RATES.map(([name, ...what]) => [name, new Plot(...what)]));
  const choice = h("select", { id: "hours" }, HOURS.map((n) =>
    h("option", { value: n }, n === 1 ? "hour" : `${n} hours`)));
  let chosen = false;
  const hint = h("p", { class: "muted" });
  const place = h("div", { class: "plots" });
  const element = h("div", {},
    h("p", { class: "line" }, h("label", { for: "hours" }, "Show the last"), choice), hint, place);
  let data = null;

  const draw = () => {
    const hours = Number(choice.value);
    const interval = data.interval_seconds * 1000;
    const all = data.stored.length;
    const kept = Math.min(all, Math.ceil((hours * 3600000) / interval));
    const from = new Date(data.from).getTime() + (all - kept) * interval;
    for (const [name, plot] of plots) {
      const values = (data[name] ?? []).slice(all - kept);
      const has = Array.isArray(data[name]) && (name !== "failed" || values.some(Boolean));
      if (has && !plot.element.isConnected) place.append(plot.element);
      if (!has) plot.element.remove();
      else plot.update(values, from, interval, hours * 3600000);
    }
    hint.hidden = Boolean(all);
    hint.textContent = all ? "" : "Nothing is counted yet; look again in a minute.";
  };

  choice.addEventListener("change", draw);
  signal.addEventListener("abort", () => plots.forEach((plot) => plot.close()));
  return async () => {
    data = await get(at("rates"), signal);
    if (!chosen) {
      const span = (data.stored.length * data.interval_seconds) / 3600;
      choice.value = String(HOURS.find((n) => n >= Math.min(span, 6)));
      chosen = true;
    }
    requestAnimationFrame(draw);
    return element.isConnected ? null : element;
  };
}

function jobs(signal) {
  return async () => {
    const running = (await get(at("jobs"), signal)).jobs.slice(0, 5);
    if (!running.length) return h("p", { class: "muted" }, "Nothing has been sent from here.");
    return h("ul", { class: "plain" }, running.map(jobRow));
  };
}

const BAD = ["damaged", "missing", "unreadable"];

function verification({ progress, regular }) {
  const all = [progress, regular].filter(Boolean);
  if (!all.length) {
    return h("p", { class: "muted" }, "The files were not compared with what was stored since the start of the server; ",
      h("code", {}, "d360ctl verify"), " does it.");
  }
  return h("div", {}, all.map(verified));
}

function verified(one) {
  const bad = BAD.filter((state) => one[state]);
  const wrong = bad.map((state) => `${number(one[state])} ${state}`).join(", ");
  const so = one.running ? "" : one.error ? `, ended early (${one.error})` : "";
  const of = one.study ? ` of study ${one.study}` : "";
  return h("div", {},
    h("p", {}, state(!bad.length, wrong || (one.running || one.error ? "Nothing wrong so far" : "All intact"))),
    h("p", { class: "muted" }, `${one.running ? "Running since" : "Begun"} ${moment(one.started)}${so}: `
      + `${number(one.done)} of ${counted(one.total, "file")}${of}, ${size(one.size)} read`),
    bad.length ? h("ul", { class: "log" }, one.findings.slice(0, 10).map((finding) => h("li", {},
      h("span", { class: "level error" }, finding.state),
      h("span", { class: "words" }, `${finding.path}: ${finding.why}`)))) : null);
}

export function overview(place, { signal }) {
  const trouble = new Trouble();
  const watch = { signal, trouble };
  place.append(
    h("h1", {}, "Overview"), trouble.element,
    part("Now", "the state", 5, watch, async () => status(await get(at("status"), signal))),
    part("Associations", "the associations", 5, watch, async () => associations(await get(at("associations"), signal))),
    part("Rates", "the rates", 15, watch, rates(signal)),
    h("div", { class: "columns" },
      part("Sent from here", "what is sent", 5, watch, jobs(signal)),
      part("Files", "what became of the files", 10, watch, async () => verification(await get(at("verify"), signal))),
      part("Last errors", "the last errors", 10, watch, async () => errors(await get(at("errors"), signal)))));
}
