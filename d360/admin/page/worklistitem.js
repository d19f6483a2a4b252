// One worklist item as a form, by keyword, with its scheduled steps. What the
// form has no control for stays as it is.

import { CallError, at, call } from "./api.js";
import { button, field, h, loading, notice } from "./dom.js";
import { asPersonName, patient } from "./format.js";
import { problem } from "./problems.js";
import { MODALITIES } from "./uids.js";
import { removeItem, stepsOf } from "./worklist.js";

// Label, keyword, kind, and more of the control.
const PATIENT = [
  ["Name", "PatientName", "name", { required: true, placeholder: "Rossi, Anna" }],
  ["Patient ID", "PatientID", "text", { maxlength: 64, required: true }],
  ["Birth date", "PatientBirthDate", "date"],
  ["Sex", "PatientSex", "choice", { options: [["", ""], ["F", "Female"], ["M", "Male"], ["O", "Other"]] }],
];
const PROCEDURE = [
  ["Accession number", "AccessionNumber", "text", { maxlength: 16 }],
  ["Procedure", "RequestedProcedureDescription", "text", { maxlength: 64 }],
  ["Requested procedure ID", "RequestedProcedureID", "text", { maxlength: 16 }],
  ["Referring physician", "ReferringPhysicianName", "name"],
  ["Requesting physician", "RequestingPhysician", "name"],
  ["Study Instance UID", "StudyInstanceUID", "text", { maxlength: 64, wide: true, hint: "Made by the server if it is empty." }],
];
const STEP = [
  ["Modality", "Modality", "text", { maxlength: 16, required: true, list: "modalities" }],
  ["Station AE title", "ScheduledStationAETitle", "text", { maxlength: 16, required: true }],
  ["Start date", "ScheduledProcedureStepStartDate", "date", { required: true }],
  ["Start time", "ScheduledProcedureStepStartTime", "time", { hint: "00:00 if it is empty." }],
  ["Description", "ScheduledProcedureStepDescription", "text", { maxlength: 64 }],
  ["Performing physician", "ScheduledPerformingPhysicianName", "name"],
  ["Step ID", "ScheduledProcedureStepID", "text", { maxlength: 16, hint: "Made by the server if it is empty." }],
];
const OWN = new Set(["id", "version", "ScheduledProcedureStepSequence"]);

const isSimple = (value) => ["string", "number"].includes(typeof value)
  || (Array.isArray(value) && value.every((one) => ["string", "number"].includes(typeof one)));

const asText = (value) => (Array.isArray(value) ? value.join("\\") : String(value ?? ""));

/** What was typed, in the form of the value that it replaces. */
function asValue(typed, before) {
  if (Array.isArray(before) || (before === undefined && typed.includes("\\"))) return typed.split("\\");
  return typeof before === "number" && typed.trim() !== "" && !Number.isNaN(Number(typed)) ? Number(typed) : typed;
}

const toControl = {
  name: (value) => value.replace(/^([^^=,]+)\^([^^=,]+)$/, "$1, $2"),
  date: (value) => value.replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3"),
  time: (value) => value.replace(/^(\d\d)(\d\d)?(\d\d)?(\.\d{1,3})?\d*$/, (_, hours, minutes = "00", seconds = "", part = "") =>
    `${hours}:${minutes}${seconds ? `:${seconds}${part}` : ""}`),
};
const fromControl = {
  date: (value) => value.replaceAll("-", ""),
  time: (value) => value.replaceAll(":", ""),
  name: asPersonName,
};
const fits = { date: /^(\d{4}-\d\d-\d\d)?$/, time: /^(\d\d:\d\d(:\d\d(\.\d+)?)?)?$/ };

/** The controls of some keywords of one data set. */
class Controls {
  constructor(listed, data, prefix) {
    this.fields = listed.filter(([, keyword]) => data[keyword] === undefined || isSimple(data[keyword]))
      .map(([label, keyword, kind, { hint, options, wide, ...more } = {}]) => {
        const before = asText(data[keyword]);
        const shown = (toControl[kind] ?? String)(before);
        // What a control of the browser would not show stays text.
        const plain = fits[kind] && !fits[kind].test(shown);
        const id = `${prefix}${keyword}`;
        const listsAll = !options || options.some(([value]) => value === before);
        const control = options && listsAll
          ? h("select", { id, name: id }, options.map(([value, name]) => h("option", { value, selected: value === before }, name)))
          : h("input", {
            id, name: id, type: fits[kind] && !plain ? kind : "text", value: plain ? before : shown,
            step: kind === "time" && !plain ? "any" : null, autocomplete: fits[kind] ? null : "off", spellcheck: "false", ...more,
          });
        const first = control.value;
        const element = field(label, control, hint);
        if (wide) element.classList.add("wide");
        return {
          keyword,
          element,
          // What was not touched goes back as it came.
          changed: () => control.value !== first,
          value: () => (plain ? control.value : (fromControl[kind] ?? String)(control.value)).trim(),
        };
      });
    this.elements = h("div", { class: "fields" }, this.fields.map((one) => one.element));
  }

  /** Write what was changed into a data set. */
  into(data) {
    for (const one of this.fields) {
      if (!one.changed()) continue;
      if (one.value()) data[one.keyword] = asValue(one.value(), data[one.keyword]);
      else delete data[one.keyword];
    }
    return data;
  }
}

/** Further attributes of a data set, by keyword. */
class Others {
  constructor(listed, data, where) {
    const known = new Set([...OWN, ...listed.map(([, keyword]) => keyword)]);
    this.where = where;
    this.rows = h("div", {});
    this.kept = [];
    this.removed = [];
    const some = Object.entries(data).filter(([keyword, value]) =>
      !OWN.has(keyword) && (!known.has(keyword) || !isSimple(value)));
    for (const [keyword, value] of some) {
      if (!isSimple(value)) this.kept.push(keyword);
      else if (asText(value)) this.#row(keyword, value);
    }
    this.element = h("details", { open: this.rows.childElementCount > 0 },
      h("summary", {}, "Other attributes"),
      this.rows,
      this.kept.length ? h("p", { class: "muted" }, `Kept as they are: ${this.kept.join(", ")}.`) : null,
      button("Add an attribute", () => this.#row("", "").keyword.focus(), { "aria-label": `Add an attribute of ${where}` }));
  }

  #row(keyword, value) {
    const key = field("Keyword", h("input", { value: keyword, readonly: Boolean(keyword), autocomplete: "off", spellcheck: "false", placeholder: "PatientComments" }));
    const shown = asText(value);
    const input = field("Value", /[\r\n]/.test(shown)
      ? h("textarea", { rows: "4" }, shown) : h("input", { value: shown, autocomplete: "off" }));
    // A control may show another text than it was given; only what a person
    // has changed is written.
    const row = { keyword: key.control, value: input.control, first: keyword ? input.control.value : null };
    const element = h("div", { class: "pair" }, key, input, button("Remove", () => {
      element.remove();
      if (keyword) this.removed.push(keyword);
    }, { class: "quiet danger", "aria-label": `Remove the attribute ${keyword}` }));
    element.row = row;
    this.rows.append(element);
    return row;
  }

  into(data) {
    for (const keyword of this.removed) delete data[keyword];
    for (const { row } of this.rows.children) {
      const keyword = row.keyword.value.trim();
      if (!keyword || row.value.value === row.first) continue;
      if (row.value.value) data[keyword] = asValue(row.value.value, data[keyword]);
      else delete data[keyword];
    }
    return data;
  }
}

let steps = 0;

class Step {
  constructor(data, form) {
    const number = ++steps;
    this.data = data;
    this.controls = new Controls(STEP, data, `step${number}-`);
    this.others = new Others(STEP, data, "the step");
    this.legend = h("legend", {}, "Step");
    this.remove = button("Remove this step", () => form.removeStep(this), { class: "quiet danger" });
    this.element = h("fieldset", { class: "panel step" }, this.legend, this.controls.elements, this.others.element, this.remove);
  }

  value() {
    return this.others.into(this.controls.into({ ...this.data }));
  }
}

class Form {
  constructor(item, save) {
    this.item = item;
    this.patient = new Controls(PATIENT, item, "");
    this.procedure = new Controls(PROCEDURE, item, "");
    this.others = new Others([...PATIENT, ...PROCEDURE], item, "the item");
    this.stepList = h("div", {});
    this.steps = [];
    this.failure = h("div", { role: "alert" });
    this.go = h("button", { class: "primary", id: "save" }, item.id ? "Save" : "Add the item");
    this.element = h("form", {},
      h("fieldset", { class: "panel" }, h("legend", {}, "Patient"), this.patient.elements),
      h("fieldset", { class: "panel" }, h("legend", {}, "Procedure"), this.procedure.elements, this.others.element),
      this.stepList,
      h("p", {}, button("Add a step", () => this.addStep({}).element.querySelector("input").focus(), { id: "add-step" })),
      h("datalist", { id: "modalities" }, MODALITIES.map((m) => h("option", { value: m }))),
      this.failure,
      h("div", { class: "buttons" }, h("a", { class: "button", href: "#/worklist" }, "Cancel"), this.go));
    const there = stepsOf(item);
    (there.length ? there : [{}]).forEach((step) => this.addStep(step));
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.go.disabled) save(this);
    });
  }

  addStep(data) {
    const step = new Step(data, this);
    this.steps.push(step);
    this.stepList.append(step.element);
    this.#number();
    return step;
  }

  removeStep(step) {
    this.steps.splice(this.steps.indexOf(step), 1);
    step.element.remove();
    this.#number();
    document.getElementById("add-step").focus();
  }

  #number() {
    this.steps.forEach((step, i) => {
      step.legend.textContent = this.steps.length > 1 ? `Scheduled step ${i + 1}` : "Scheduled step";
      step.remove.hidden = this.steps.length < 2;
    });
  }

  /** The item as the server takes it. */
  value() {
    const whole = this.others.into(this.procedure.into(this.patient.into({ ...this.item })));
    delete whole.id;
    delete whole.version;
    whole.ScheduledProcedureStepSequence = this.steps.map((step) => step.value());
    return whole;
  }
}

export async function worklistItem(place, { parts: [id], signal }) {
  const isNew = id === "new";
  const heading = h("h1", {}, isNew ? "Add a worklist item" : "Worklist item");
  const tools = h("div", { class: "buttons" });
  const content = h("div", {});
  place.append(
    h("nav", { class: "trail", "aria-label": "Where this is" }, h("ol", {},
      h("li", {}, h("a", { href: "#/worklist" }, "Worklist")),
      h("li", {}, h("span", { "aria-current": "page" }, isNew ? "New item" : "Item")))),
    h("div", { class: "head" }, heading, tools), content);
  let etag = null;

  async function save(form) {
    form.go.disabled = true;
    form.failure.replaceChildren();
    try {
      if (isNew) {
        await call("POST", at("worklist"), { body: form.value() });
      } else {
        await call("PUT", at("worklist", id), { body: form.value(), headers: etag ? { "If-Match": etag } : {} });
      }
      notice(`The worklist item is ${isNew ? "added" : "saved"}. Modalities find it from now on.`);
      location.hash = "#/worklist";
    } catch (error) {
      if (error.name === "AbortError") return;
      form.failure.replaceChildren(...failed(error));
    } finally {
      form.go.disabled = false;
    }
  }

  function failed(error) {
    if (error.status === 412) {
      return [problem(new CallError(412, "Someone else has changed this item since you opened it.",
        "Nothing was saved. Load it as it is now, and make your change again.")),
      h("p", {}, button("Load it as it is now", load, { id: "reload" }))];
    }
    if (error.status === 409) {
      return [problem(new CallError(409, `This conflicts with another item: ${error.message}`,
        "Nothing was saved. Change what is named, such as the Study Instance UID, or leave it empty."))];
    }
    return [problem(error)];
  }

  async function load() {
    content.replaceChildren(loading("the item"));
    try {
      let item = {};
      if (!isNew) {
        const found = await call("GET", at("worklist", id), { signal });
        item = found.data;
        etag = found.etag;
        heading.textContent = patient(item);
        tools.replaceChildren(button("Remove …", async () => {
          if (await removeItem(item, etag)) location.hash = "#/worklist";
        }, { class: "quiet danger", id: "remove" }));
      }
      const form = new Form(item, save);
      content.replaceChildren(form.element);
    } catch (error) {
      if (error.name === "AbortError") return;
      content.replaceChildren(problem(error, load), h("p", {}, h("a", { href: "#/worklist" }, "Back to the worklist")));
    }
  }
  await load();
}
