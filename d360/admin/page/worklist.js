// The modality worklist: searched, and items removed.

import { at, call, get, query } from "./api.js";
import { ask } from "./dialogs.js";
import { button, facts, field, h, notice } from "./dom.js";
import { asPersonName, counted, date, dateTime, patient, text } from "./format.js";
import { Pages, dateRange, splitRange } from "./pages.js";
import { MODALITIES } from "./uids.js";

const PAGE = 50;

export const itemPlace = (id) => `#/worklist/${encodeURIComponent(id)}`;

export const stepsOf = (item) => item.ScheduledProcedureStepSequence ?? [];

/** Ask whether to remove an item; whether it was. */
export function removeItem(item, etag) {
  const steps = stepsOf(item);
  return ask("Remove this item from the worklist?", [
    facts([
      ["Patient", patient(item)],
      ["Patient ID", text(item.PatientID)],
      ["Procedure", text(item.RequestedProcedureDescription)],
      ["Accession number", text(item.AccessionNumber)],
      ["Steps", steps.map((step) => [text(step.Modality), text(step.ScheduledStationAETitle),
        dateTime(step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime)].filter(Boolean).join(" ")).join("; ")],
    ]),
    h("p", {}, `${counted(steps.length, "scheduled step")} will no longer be found by modalities. Studies are not touched.`),
  ], {
    action: "Remove the item", danger: true,
    submit: async () => {
      await call("DELETE", at("worklist", item.id), { headers: { "If-Match": etag ?? `"${item.version}"` } });
      notice(`The worklist item of ${patient(item)} is removed.`);
    },
  });
}

const perStep = (item, show) => stepsOf(item).map((step) => h("div", {}, show(step) || "–"));

export function worklist(place, { search, signal }) {
  const [from, to] = splitRange(search.get("ScheduledProcedureStepStartDate"));
  const input = (id, more) => h("input", { id, value: search.get(id), autocomplete: "off", spellcheck: "false", ...more });
  const fields = {
    PatientName: field("Patient name", input("PatientName", { placeholder: "Rossi, Anna" }), "How it begins; * and ? stand for any."),
    PatientID: field("Patient ID", input("PatientID"), "Whole, or with *."),
    AccessionNumber: field("Accession number", input("AccessionNumber"), "Whole, or with *."),
    Modality: field("Modality", input("Modality", { list: "modalities", placeholder: "CT" })),
    ScheduledStationAETitle: field("Station AE title", input("ScheduledStationAETitle")),
    from: field("Start date from", h("input", { id: "from", type: "date", value: from })),
    to: field("to", h("input", { id: "to", type: "date", value: to })),
  };
  const value = (name) => fields[name].control.value.trim();
  const { from: begin, to: end, ...others } = fields;
  const form = h("form", { class: "search panel", role: "search" },
    Object.values(others), h("div", { class: "range" }, begin, end),
    h("datalist", { id: "modalities" }, MODALITIES.map((m) => h("option", { value: m }))),
    h("div", { class: "buttons" },
      button("Clear", () => { location.hash = "#/worklist"; }, { id: "clear" }),
      h("button", { class: "primary", id: "search" }, "Search")));
  const results = h("section", { "aria-label": "Worklist items found" });
  place.append(
    h("div", { class: "head" }, h("h1", {}, "Worklist"), h("a", { class: "button primary", href: "#/worklist/new", id: "add" }, "Add an item")),
    form, results);

  const pages = new Pages("items", results, [
    { name: "Patient", header: true, cell: (item) => h("a", { href: itemPlace(item.id) }, patient(item)) },
    { name: "Patient ID", cell: (item) => text(item.PatientID) },
    { name: "Born", cell: (item) => date(item.PatientBirthDate) },
    { name: "Accession", cell: (item) => text(item.AccessionNumber) },
    { name: "Procedure", cell: (item) => text(item.RequestedProcedureDescription) },
    { name: "Start", cell: (item) => perStep(item, (s) => dateTime(s.ScheduledProcedureStepStartDate, s.ScheduledProcedureStepStartTime)) },
    { name: "Modality", cell: (item) => perStep(item, (s) => text(s.Modality)) },
    { name: "Station", cell: (item) => perStep(item, (s) => text(s.ScheduledStationAETitle)) },
    {
      name: "Actions", actions: true, cell: (item) => [
        h("a", { class: "button", href: itemPlace(item.id), "aria-label": `Edit the item of ${patient(item)}` }, "Edit"),
        button("Remove", async () => {
          if (await removeItem(item)) {
            await pages.load();
            document.getElementById("add")?.focus();
          }
        }, { class: "quiet danger", "aria-label": `Remove the item of ${patient(item)}` }),
      ],
    },
  ], async (after) => {
    const name = asPersonName(search.get("PatientName") ?? "");
    const found = await get(at("worklist") + query({
      PatientName: name && !/[*?]/.test(name) ? `${name}*` : name,
      PatientID: search.get("PatientID"), AccessionNumber: search.get("AccessionNumber"),
      Modality: (search.get("Modality") ?? "").toUpperCase(),
      ScheduledStationAETitle: search.get("ScheduledStationAETitle"),
      ScheduledProcedureStepStartDate: search.get("ScheduledProcedureStepStartDate"), limit: PAGE, after,
    }), signal);
    return { rows: found.items, next: found.next };
  }, String(search) ? "No item is found. Leave out a field, or widen the dates." : "The worklist is empty. Add an item, or let the RIS add them.");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = `#/worklist${query({
      PatientName: value("PatientName"), PatientID: value("PatientID"), AccessionNumber: value("AccessionNumber"),
      Modality: value("Modality"), ScheduledStationAETitle: value("ScheduledStationAETitle"),
      ScheduledProcedureStepStartDate: dateRange(value("from"), value("to")),
    })}`;
    if (wanted === location.hash) pages.load();
    else location.hash = wanted;
  });
  pages.load();
}
