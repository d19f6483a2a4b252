// Failures, in words.

import { askAgain } from "./api.js";
import { button, h } from "./dom.js";

/** A failure: what happened, what to do, and a button to do it again. */
export function problem(error, again) {
  return h("div", { class: "problem", role: "alert" },
    h("p", {}, h("strong", {}, error.message)),
    error.advice ? h("p", {}, error.advice) : null,
    again ? button("Try again", () => { askAgain(); again(); }) : null);
}

/** One failure that concerns much of a view, said once. */
export class Trouble {
  constructor() {
    this.element = h("div", {});
    this.parts = new Map();
  }

  /** A part has met it; it calls again() to try once more. */
  add(part, error, again) {
    this.parts.set(part, again);
    if (this.element.firstChild) return;
    this.element.append(problem(error, () => [...this.parts.values()].forEach((one) => one())));
  }

  /** A part is well again. */
  remove(part) {
    this.parts.delete(part);
    if (!this.parts.size) this.element.replaceChildren();
  }
}
