// A plot over time that also reads as text: by pointer, by arrow keys, as a table.

import { h, svg } from "./dom.js";
import { clock, day } from "./format.js";

const MARGIN = { top: 10, right: 12, bottom: 24, left: 58 };
const HEIGHT = 150;
const MINUTE = 60000;
const STEPS = [1, 2, 5, 10, 15, 30, 60].map((m) => m * MINUTE);
const TICKS = [5, 10, 15, 30, 60, 120, 180, 360, 720, 1440].map((m) => m * MINUTE);

let plots = 0;

/** 1, 2 or 5 times a power of ten that is no less. */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.9999);
}

/** Values in equal steps, so that no more than count of them are to be drawn. */
function gather(values, from, interval, span, count) {
  const step = STEPS.find((s) => s >= interval && span / s <= count)
    ?? STEPS[STEPS.length - 1];
  const slots = new Map();
  values.forEach((value, i) => {
    const at = Math.floor((from + i * interval) / step) * step;
    slots.set(at, (slots.get(at) ?? 0) + value);
  });
  return { step, slots: [...slots].map(([at, value]) => ({ at, value })) };
}

/** "per minute", "per 5 minutes". */
const per = (step) => (step === MINUTE ? "per minute" : step === 60 * MINUTE ? "per hour" : `per ${step / MINUTE} minutes`);

export class Plot {
  /**
   * @param title what is counted
   * @param show a value as text
   * @param isBad what is counted should not be
   */
  constructor(title, show, isBad) {
    this.title = title;
    this.show = show;
    this.slots = [];
    this.chosen = null;
    const id = `plot${++plots}`;
    this.heading = h("h3", { id }, title);
    this.readout = h("p", { class: "readout" });
    this.svg = svg("svg", {
      class: isBad ? "plot bad" : "plot", tabindex: "0", role: "slider", "aria-labelledby": id,
      "aria-orientation": "horizontal", "aria-valuemin": "0", height: HEIGHT,
    });
    this.rows = h("tbody");
    this.head = h("th", { scope: "col", class: "number" });
    this.element = h("figure", { class: "figure" }, this.heading, this.readout, this.svg,
      h("details", {}, h("summary", {}, "As a table"),
        h("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": id },
          h("table", {},
            h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), this.head)), this.rows))));
    this.svg.addEventListener("keydown", (event) => this.#key(event));
    this.svg.addEventListener("pointermove", (event) => this.#point(event));
    this.svg.addEventListener("pointerdown", (event) => this.#point(event));
    this.svg.addEventListener("pointerleave", () => this.#choose(null));
    this.svg.addEventListener("focus", () => this.#choose(this.chosen ?? this.slots.length - 1));
    this.svg.addEventListener("blur", () => this.#choose(null));
    this.sizes = new ResizeObserver(() => this.#draw());
    this.sizes.observe(this.svg);
  }

  /**
   * Values of one interval each; the first one begins at from. What is drawn
   * is as long as span and ends with the last one. All in milliseconds.
   */
  update(values, from, interval, span) {
    Object.assign(this, { values, from, interval, span });
    this.#draw();
  }

  close() {
    this.sizes.disconnect();
  }

  #draw() {
    const width = this.svg.clientWidth;
    if (!width || !this.values) return;
    const inner = width - MARGIN.left - MARGIN.right;
    const { step, slots } = gather(this.values, this.from, this.interval, this.span, Math.floor(inner / 4));
    this.slots = slots;
    this.step = step;
    const end = slots.length ? slots[slots.length - 1].at + step : this.from + this.interval;
    const start = Math.min(slots[0]?.at ?? end, end - this.span);
    this.x = (t) => MARGIN.left + ((t - start) / (end - start)) * inner;
    const most = Math.max(0, ...slots.map((slot) => slot.value));
    const unit = Math.max(nice(most / 3), this.show.whole ? 1 : 0);
    const top = Math.max(unit, Math.ceil(most / unit) * unit);
    const bottom = HEIGHT - MARGIN.bottom;
    this.y = (v) => bottom - (v / top) * (bottom - MARGIN.top);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("aria-valuemax", Math.max(0, slots.length - 1));

    const parts = [];
    for (let v = 0; v <= top + unit / 2; v += unit) {
      const y = Math.round(this.y(v)) + 0.5;
      parts.push(svg("line", { class: v ? "grid" : "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }),
        svg("text", { class: "tick", x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, this.show(v)));
    }
    parts.push(...this.#times(start, end, inner));
    const bar = Math.max(1.5, this.x(start + step) - this.x(start) - 1);
    for (const { at, value } of slots) {
      if (!value) continue;
      const y = Math.min(this.y(value), bottom - 1.5);
      parts.push(svg("rect", { class: "bar", x: this.x(at), y, width: bar, height: bottom - y }));
    }
    this.mark = svg("line", { class: "mark", y1: MARGIN.top, y2: bottom, visibility: "hidden" });
    this.svg.replaceChildren(...parts, this.mark);

    this.heading.textContent = `${this.title} ${per(step)}`;
    this.head.textContent = `${this.title} ${per(step)}`;
    const some = slots.filter((slot) => slot.value);
    this.rows.replaceChildren(...(some.length ? [...some].reverse().map((slot) =>
      h("tr", {}, h("th", { scope: "row" }, this.#when(slot.at)), h("td", { class: "number" }, this.show(slot.value))))
      : [h("tr", {}, h("td", { colspan: "2" }, "Nothing in this time."))]));
    if (document.activeElement === this.svg && this.chosen === null) this.chosen = slots.length - 1;
    this.#choose(this.chosen === null ? null : Math.min(this.chosen, slots.length - 1));
  }

  #times(start, end, inner) {
    const tick = TICKS.find((t) => (end - start) / t <= inner / 52) ?? TICKS[TICKS.length - 1];
    const shift = new Date(start).getTimezoneOffset() * MINUTE;
    const parts = [];
    for (let t = Math.ceil((start - shift) / tick) * tick + shift; t <= end; t += tick) {
      const x = this.x(t);
      parts.push(svg("line", { class: "axis", x1: x, x2: x, y1: HEIGHT - MARGIN.bottom, y2: HEIGHT - MARGIN.bottom + 4 }));
      if (x > MARGIN.left + 8 && x < MARGIN.left + inner - 8) {
        parts.push(svg("text", { class: "tick", x, y: HEIGHT - 6, "text-anchor": "middle" }, clock(new Date(t))));
      }
    }
    return parts;
  }

  #when(at) {
    const begin = new Date(at);
    const other = day(begin) === day(new Date()) ? "" : `${day(begin)} `;
    const end = this.step === MINUTE ? "" : `–${clock(new Date(at + this.step))}`;
    return `${other}${clock(begin)}${end}`;
  }

  #choose(index) {
    this.chosen = index;
    const slot = index === null ? null : this.slots[index];
    this.mark?.setAttribute("visibility", slot ? "visible" : "hidden");
    if (slot) {
      const x = this.x(slot.at + this.step / 2);
      this.mark.setAttribute("x1", x);
      this.mark.setAttribute("x2", x);
      this.readout.textContent = `${this.#when(slot.at)}: ${this.show(slot.value)}`;
    } else {
      const total = this.slots.reduce((sum, one) => sum + one.value, 0);
      this.readout.textContent = `${this.show(total)} in this time`;
    }
    const last = this.slots.length - 1;
    this.svg.setAttribute("aria-valuenow", Math.max(0, index ?? last));
    this.svg.setAttribute("aria-valuetext", this.readout.textContent);
  }

  #key(event) {
    const last = this.slots.length - 1;
    const now = this.chosen ?? last;
    const to = {
      ArrowLeft: now - 1, ArrowRight: now + 1, ArrowDown: now - 1, ArrowUp: now + 1,
      PageUp: now + 10, PageDown: now - 10, Home: 0, End: last,
    }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.#choose(Math.max(0, Math.min(last, to)));
  }

  #point(event) {
    if (!this.slots.length) return;
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    const width = this.x(this.slots[0].at + this.step) - this.x(this.slots[0].at);
    const index = Math.floor((x - this.x(this.slots[0].at)) / width);
    this.#choose(Math.max(0, Math.min(this.slots.length - 1, index)));
  }
}
