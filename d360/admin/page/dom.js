// Elements, built so that whatever comes from the server is text and never HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** An element: attributes by name, listeners as "onclick", children as nodes or text. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function button(text, onclick, attributes) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

/** What a screen reader says, without anything moving. */
export function announce(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 50);
}

let noticeTimer = 0;

/** What an action has come to, for a while. */
export function notice(text) {
  const place = document.getElementById("notice");
  place.replaceChildren(
    h("span", {}, text),
    button("Dismiss", () => { place.hidden = true; }, { class: "quiet" }),
  );
  place.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { place.hidden = true; }, 12000);
}

export function loading(what) {
  return h("p", { class: "loading" }, `Loading ${what} …`);
}

/**
 * A table that becomes a list of cards on a narrow screen.
 * @param columns [{name, cell(row) -> node or text, number?, header?, hidden?}]
 */
export function table(caption, columns, rows) {
  const body = h("tbody", { role: "rowgroup" });
  const element = h("table", { role: "table" },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" },
      h("tr", { role: "row" }, columns.map((column) =>
        h("th", { role: "columnheader", scope: "col", class: column.number && "number" },
          column.actions ? h("span", { class: "unseen" }, column.name) : column.name)))),
    body);
  const add = (more) => body.append(...more.map((row) =>
    h("tr", { role: "row" }, columns.map((column) => {
      const content = column.cell(row);
      const empty = content === "" || content === null || content === undefined;
      return h(column.header ? "th" : "td", {
        role: column.header ? "rowheader" : "cell",
        scope: column.header && "row",
        class: [column.number && "number", column.actions && "actions", empty && "empty"]
          .filter(Boolean).join(" ") || null,
        "data-name": column.name,
      }, empty ? null : content);
    }))));
  add(rows);
  return { element: h("div", { class: "table" }, element), body, add };
}

/** Names and values: [name, value], and true where the value is a long one. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs
    .filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([name, value, long]) => h("div", { class: long && "long" }, h("dt", {}, name), h("dd", {}, value))));
}

let fields = 0;

/** A labelled control with a hint; the control is field.control. */
export function field(label, control, hint) {
  control.id ||= `field${++fields}`;
  const described = hint ? `${control.id}-hint` : null;
  if (described) control.setAttribute("aria-describedby", described);
  const element = h("div", { class: "field" },
    h("label", { for: control.id }, label),
    control,
    hint ? h("small", { id: described }, hint) : null);
  element.control = control;
  return element;
}

/** A box to tick, with what it means behind it; the control is choice.control. */
export function choice(id, label, words, checked) {
  const control = h("input", { id, type: "checkbox", checked, "aria-describedby": `${id}-hint` });
  const element = h("div", { class: "choice" }, control,
    h("label", { for: id }, label), h("small", { id: `${id}-hint` }, words));
  element.control = control;
  return element;
}
