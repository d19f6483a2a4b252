// Storage commitments that nobody was told of yet: listed, tried again, dropped.

import { at, call, get } from "./api.js";
import { ask } from "./dialogs.js";
import { announce, button, h, loading, notice, table } from "./dom.js";
import { counted, moment, number } from "./format.js";
import { poll } from "./polling.js";
import { problem } from "./problems.js";

const nameOf = (one) => `${one.transaction} of ${one.aet}`;

async function retry(one) {
  await call("POST", at("commitments", one.id, "retry"));
  notice(`${one.aet} is told now, if it can be.`);
}

async function drop(one) {
  return ask(`Drop the storage commitment of ${one.aet}?`, [
    h("p", {}, `${one.aet} will not be told whether D360 has these ${counted(one.instances, "instance")} for good, and may keep its own. It may ask again.`),
    h("p", {}, "Nothing that is stored is touched."),
  ], {
    action: "Drop it", danger: true,
    submit: async () => {
      await call("DELETE", at("commitments", one.id));
      notice("It is dropped.");
      return true;
    },
  });
}

function words(one) {
  if (one.state === "under way") return "Being checked or told";
  if (!one.error) return "Waits for its turn";
  return h("span", { class: "state bad" }, `Could not be told, ${moment(one.failed)}`);
}

const state = (one) => [words(one),
  one.error ? h("div", { class: "words" }, one.error) : null,
  h("div", { class: "words muted" }, `Transaction ${one.transaction}`)].filter(Boolean);

export function commitments(place, { signal }) {
  const content = h("div", {}, loading("the storage commitments"));
  place.append(
    h("h1", {}, "Storage commitments"),
    h("p", { class: "muted" }, "Modalities that have asked whether D360 has their instances for good, and were not told yet. One that cannot be reached is tried again for seven days."),
    content);
  let shown = "";

  const acting = (work) => async () => {
    try {
      if (await work() === null) return;
      await again();
      document.getElementById("main").focus();
    } catch (error) {
      notice(`${error.message} ${error.advice}`);
    }
  };

  const again = poll(5, async () => {
    try {
      const found = (await get(at("commitments"), signal)).commitments;
      // What a person is about to press stays where it is.
      const now = JSON.stringify(found);
      if (now === shown) return;
      if (!shown) announce(counted(found.length, "storage commitment"));
      shown = now;
      content.replaceChildren(found.length ? table("Storage commitments", [
        { name: "AE title", header: true, cell: (one) => one.aet },
        { name: "Instances", number: true, cell: (one) => number(one.instances) },
        { name: "Asked", cell: (one) => moment(one.asked) },
        { name: "State", cell: state },
        { name: "Next", cell: (one) => one.state === "waiting" ? moment(one.next) : "" },
        {
          name: "Actions", actions: true, cell: (one) => [
            one.state === "waiting" ? button("Tell now", acting(() => retry(one)), { "aria-label": `Tell now: ${nameOf(one)}` }) : null,
            button("Drop", acting(() => drop(one)), { "aria-label": `Drop ${nameOf(one)}`, class: "quiet danger" })].filter(Boolean),
        },
      ], found).element : h("p", { class: "empty" }, "None waits: everybody was told."));
    } catch (error) {
      if (error.name === "AbortError") throw error;
      shown = "";
      // Said once, and not again with each attempt.
      if (!content.querySelector(".problem")) content.replaceChildren(problem(error, () => again()));
    }
  }, signal);
}
