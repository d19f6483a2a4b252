// Studies: searched, opened down to the instances, sent, deleted.

import { at, call, get, query } from "./api.js";
import { ask } from "./dialogs.js";
import { announce, button, facts, field, h, loading, notice, table } from "./dom.js";
import { asPersonName, counted, date, dateTime, number, patient, personName, sex, size, text } from "./format.js";
import { StudyJobs } from "./jobs.js";
import { Pages, dateRange, splitRange } from "./pages.js";
import { problem } from "./problems.js";
import { MODALITIES, uidName } from "./uids.js";

const PAGE = 50;
let lastSearch = "#/studies";

/** What is typed of a name finds whatever begins so. */
function nameKey(typed) {
  const name = asPersonName(typed);
  return name && !/[*?]/.test(name) ? `${name}*` : name;
}

const open = (uid) => `#/studies/${encodeURIComponent(uid)}`;

export function studies(place, { search, signal }) {
  lastSearch = location.hash || "#/studies";
  const [from, to] = splitRange(search.get("StudyDate"));
  const input = (id, value, more) => h("input", { id, name: id, value, autocomplete: "off", spellcheck: "false", ...more });
  const fields = {
    PatientName: field("Patient name", input("PatientName", search.get("PatientName"), { placeholder: "Rossi, Anna" }), "How it begins; * and ? stand for any."),
    PatientID: field("Patient ID", input("PatientID", search.get("PatientID")), "Whole, or with *."),
    AccessionNumber: field("Accession number", input("AccessionNumber", search.get("AccessionNumber")), "Whole, or with *."),
    ModalitiesInStudy: field("Modality", input("ModalitiesInStudy", search.get("ModalitiesInStudy"), { list: "modalities", placeholder: "CT" })),
    from: field("Study date from", h("input", { id: "from", type: "date", value: from })),
    to: field("to", h("input", { id: "to", type: "date", value: to })),
  };
  const value = (name) => fields[name].control.value.trim();
  const { from: begin, to: end, ...others } = fields;
  const form = h("form", { class: "search panel", role: "search" },
    Object.values(others), h("div", { class: "range" }, begin, end),
    h("datalist", { id: "modalities" }, MODALITIES.map((m) => h("option", { value: m }))),
    h("div", { class: "buttons" },
      button("Clear", () => { location.hash = "#/studies"; }, { id: "clear" }),
      h("button", { class: "primary", id: "search" }, "Search")));
  const results = h("section", { "aria-label": "Studies found" });
  place.append(h("h1", {}, "Studies"), form, results);

  const pages = new Pages("studies", results, [
    { name: "Patient", header: true, cell: (s) => h("a", { href: open(s.StudyInstanceUID) }, patient(s)) },
    { name: "Patient ID", cell: (s) => text(s.PatientID) },
    { name: "Born", cell: (s) => date(s.PatientBirthDate) },
    { name: "Study date", cell: (s) => dateTime(s.StudyDate, s.StudyTime) },
    { name: "Modality", cell: (s) => text(s.ModalitiesInStudy).replaceAll("\\", ", ") },
    { name: "Description", cell: (s) => text(s.StudyDescription) },
    { name: "Accession", cell: (s) => text(s.AccessionNumber) },
    { name: "Instances", number: true, cell: (s) => number(s.NumberOfStudyRelatedInstances) },
  ], async (after) => {
    const found = await get(at("studies") + query({
      PatientName: nameKey(search.get("PatientName") ?? ""),
      PatientID: search.get("PatientID"), AccessionNumber: search.get("AccessionNumber"),
      ModalitiesInStudy: (search.get("ModalitiesInStudy") ?? "").toUpperCase(),
      StudyDate: search.get("StudyDate"), limit: PAGE, after,
    }), signal);
    return { rows: found.studies, next: found.next };
  }, String(search)
    ? "No study is found. Try less: the first letters of the name, or a wider range of dates."
    : "Nothing is stored yet.");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = `#/studies${query({
      PatientName: value("PatientName"), PatientID: value("PatientID"),
      AccessionNumber: value("AccessionNumber"), ModalitiesInStudy: value("ModalitiesInStudy"),
      StudyDate: dateRange(value("from"), value("to")),
    })}`;
    if (wanted === location.hash) pages.load();
    else location.hash = wanted;
  });
  pages.load();
}

function trail(...steps) {
  return h("nav", { "aria-label": "Where this is", class: "trail" },
    h("ol", {}, steps.map(([name, href]) => h("li", {}, href ? h("a", { href }, name) : h("span", { "aria-current": "page" }, name)))));
}

const studyName = (s) => [date(s.StudyDate), text(s.StudyDescription)].filter(Boolean).join(" ") || "Study";

function studyFacts(s, series) {
  const modalities = text(s.ModalitiesInStudy) || [...new Set(series.map((one) => one.Modality))].join(", ");
  return facts([
    ["Patient ID", text(s.PatientID)],
    ["Born", date(s.PatientBirthDate)],
    ["Sex", sex(s.PatientSex)],
    ["Study date", dateTime(s.StudyDate, s.StudyTime)],
    ["Description", text(s.StudyDescription)],
    ["Accession number", text(s.AccessionNumber)],
    ["Referring physician", personName(s.ReferringPhysicianName)],
    ["Modality", modalities.replaceAll("\\", ", ")],
    ["Stored", `${counted(s.NumberOfStudyRelatedInstances, "instance")} in ${number(s.NumberOfStudyRelatedSeries)} series`],
    ["Study Instance UID", h("code", {}, text(s.StudyInstanceUID)), true],
  ]);
}

async function remove(s) {
  const typed = h("input", { id: "typed", autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
  return ask("Delete this study?", [
    h("p", {}, "This will be deleted from the archive, with its files. It cannot be undone."),
    facts([
      ["Patient", patient(s)],
      ["Patient ID", text(s.PatientID)],
      ["Study", studyName(s)],
      ["Accession number", text(s.AccessionNumber)],
      ["Instances", `${number(s.NumberOfStudyRelatedInstances)} in ${number(s.NumberOfStudyRelatedSeries)} series`],
    ]),
    field("Type “delete” to confirm", typed),
  ], {
    action: "Delete the study", danger: true, focus: typed,
    ready: () => typed.value.trim().toLowerCase() === "delete",
    submit: async () => {
      const { data } = await call("DELETE", at("studies", s.StudyInstanceUID));
      notice(`The study of ${patient(s)} is deleted: ${counted(data?.instances ?? 0, "instance")}.`);
    },
  });
}

/** Load what a view is of, show it or why it cannot be. */
async function opened(place, what, load, show) {
  const content = h("div", {}, loading(what));
  place.append(content);
  const go = async () => {
    try {
      const data = await load();
      content.replaceChildren(...show(data));
    } catch (error) {
      if (error.name === "AbortError") return;
      content.replaceChildren(h("h1", {}, "Studies"), problem(error, go),
        h("p", {}, h("a", { href: lastSearch }, "Back to the studies")));
    }
  };
  await go();
}

const byNumber = (key) => (a, b) => (Number(a[key]) || 0) - (Number(b[key]) || 0);

export function study(place, { parts: [uid], signal }) {
  return opened(place, "the study", () => get(at("studies", uid), signal), ({ study: s, series }) => {
    const jobs = new StudyJobs(uid, signal);
    const failure = h("div", {});
    const guarded = (work) => async () => {
      failure.replaceChildren();
      try {
        await work();
      } catch (error) {
        if (error.name !== "AbortError") failure.replaceChildren(problem(error));
      }
    };
    // Only what is running is missed where this fails.
    jobs.find().catch(() => {});
    announce(`Study of ${patient(s)}, ${number(series.length)} series`);
    return [
      trail(["Studies", lastSearch], [patient(s)]),
      h("div", { class: "head" }, h("h1", {}, patient(s)),
        h("div", { class: "buttons" },
          button("Delete …", guarded(async () => { if (await remove(s)) location.hash = lastSearch; }), { class: "quiet danger", id: "delete" }),
          button("Send …", guarded(() => jobs.choose()), { class: "primary", id: "send" }))),
      failure,
      jobs.element,
      h("section", { class: "panel", "aria-label": "Study" }, studyFacts(s, series)),
      h("section", {}, h("h2", {}, "Series"), table("Series", [
        { name: "No.", number: true, cell: (one) => text(one.SeriesNumber) },
        {
          name: "Series", header: true,
          cell: (one) => h("a", { href: `${open(uid)}/series/${encodeURIComponent(one.SeriesInstanceUID)}` },
            text(one.SeriesDescription) || "(no description)"),
        },
        { name: "Modality", cell: (one) => text(one.Modality) },
        { name: "Body part", cell: (one) => text(one.BodyPartExamined) },
        { name: "Date", cell: (one) => dateTime(one.SeriesDate, one.SeriesTime) },
        { name: "Instances", number: true, cell: (one) => number(one.NumberOfSeriesRelatedInstances) },
      ], [...series].sort(byNumber("SeriesNumber"))).element),
    ];
  });
}

export function series(place, { parts: [uid, seriesUID], signal }) {
  const load = async () => {
    const [whole, one] = await Promise.all([
      get(at("studies", uid), signal), get(at("studies", uid, "series", seriesUID), signal)]);
    return { study: whole.study, ...one };
  };
  return opened(place, "the series", load, ({ study: s, series: one, instances }) => {
    const name = text(one.SeriesDescription) || `Series ${text(one.SeriesNumber)}`;
    const sorted = [...instances].sort(byNumber("InstanceNumber"));
    const total = sorted.reduce((sum, i) => sum + (Number(i.size) || 0), 0);
    announce(`${name}, ${counted(sorted.length, "instance")}`);
    const listed = h("section", {}, h("h2", {}, "Instances"));
    const pages = new Pages("instances", listed, [
      { name: "No.", number: true, header: true, cell: (i) => text(i.InstanceNumber) },
      { name: "Kind", cell: (i) => uidName(i.SOPClassUID) },
      { name: "Transfer syntax", cell: (i) => uidName(i.TransferSyntaxUID) },
      { name: "Size", number: true, cell: (i) => size(i.size) },
      { name: "SOP Instance UID", cell: (i) => h("code", {}, text(i.SOPInstanceUID)) },
    ], async (after) => {
      const end = Number(after || 0) + 200;
      return { rows: sorted.slice(Number(after || 0), end), next: end < sorted.length ? String(end) : null };
    }, "The series has no instances.");
    pages.load();
    return [
      trail(["Studies", lastSearch], [patient(s), open(uid)], [name]),
      h("h1", {}, name),
      h("section", { class: "panel", "aria-label": "Series" }, facts([
        ["Patient", patient(s)],
        ["Study", studyName(s)],
        ["Series number", text(one.SeriesNumber)],
        ["Modality", text(one.Modality)],
        ["Body part", text(one.BodyPartExamined)],
        ["Date", dateTime(one.SeriesDate, one.SeriesTime)],
        ["Stored", `${counted(sorted.length, "instance")}, ${size(total)}`],
        ["Series Instance UID", h("code", {}, text(one.SeriesInstanceUID)), true],
      ])),
      listed,
    ];
  });
}
