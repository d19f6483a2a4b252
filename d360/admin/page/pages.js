// Long lists, page by page; and ranges of dates.

import { announce, button, h, loading, table } from "./dom.js";
import { number } from "./format.js";
import { problem } from "./problems.js";

/** A list that grows by a page at a time. */
export class Pages {
  /**
   * @param load async (after) -> {rows, next}; after is "" for the first page
   * @param nothing what to say where there is nothing
   */
  constructor(what, place, columns, load, nothing) {
    this.what = what;
    this.columns = columns;
    this.fetch = load;
    this.nothing = nothing;
    this.content = h("div", {});
    this.foot = h("div", { class: "foot" });
    place.append(this.content, this.foot);
  }

  /** From the start. */
  async load() {
    this.content.replaceChildren(loading(this.what));
    this.foot.replaceChildren();
    try {
      const { rows, next } = await this.fetch("");
      this.count = rows.length;
      this.table = rows.length ? table(this.what, this.columns, rows) : null;
      this.content.replaceChildren(this.table?.element ?? h("p", { class: "empty" }, this.nothing));
      this.#end(next);
      announce(rows.length ? this.words(next) : this.nothing);
    } catch (error) {
      if (error.name !== "AbortError") this.content.replaceChildren(problem(error, () => this.load()));
    }
  }

  words(next) {
    const n = this.count;
    const what = n === 1 ? this.what.replace("studies", "study").replace(/s$/, "") : this.what;
    return next ? `The first ${number(n)} ${what}` : `${number(n)} ${what}`;
  }

  #end(next) {
    if (!this.count) return;
    const more = button("Show more", () => this.#more(next, more), { id: "more" });
    this.foot.replaceChildren(h("p", { class: "muted" }, this.words(next)), ...(next ? [more] : []));
  }

  async #more(after, pressed) {
    pressed.disabled = true;
    pressed.textContent = "Loading …";
    try {
      const { rows, next } = await this.fetch(after);
      const first = this.table.body.rows.length;
      this.table.add(rows);
      this.count += rows.length;
      this.#end(next);
      announce(`${number(rows.length)} more. ${this.words(next)}`);
      this.table.body.rows[first]?.querySelector("a, button")?.focus();
    } catch (error) {
      if (error.name !== "AbortError") this.foot.replaceChildren(problem(error, () => this.#more(after, pressed)));
    }
  }
}

/** Dates of two controls as a range: 20260101-20260131. */
export function dateRange(from, to) {
  const [a, b] = [from, to].map((one) => one.replaceAll("-", ""));
  return a && a === b ? a : a || b ? `${a}-${b}` : "";
}

const asControl = (value) => {
  const found = /^(\d{4})(\d\d)(\d\d)$/.exec(value ?? "");
  return found ? `${found[1]}-${found[2]}-${found[3]}` : "";
};

/** The inverse. */
export function splitRange(range) {
  const [from, to] = (range ?? "").includes("-") ? range.split("-") : [range, range];
  return [asControl(from), asControl(to)];
}
