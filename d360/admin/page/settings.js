// The configuration in effect.

import { at, get, isMissing } from "./api.js";
import { facts, h, loading } from "./dom.js";
import { problem } from "./problems.js";

function shown(value) {
  if (value === null || value === undefined) return "";
  if (value === "***") return "set, not shown";
  if (value === true) return "yes";
  if (value === false) return "no";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

export async function settings(place, { signal }) {
  const content = h("div", { class: "panel" }, loading("the settings"));
  place.append(h("h1", {}, "Settings in effect"),
    h("p", { class: "muted" }, "They are of the configuration file and the command line; a change there holds after a restart."),
    content);
  const load = async () => {
    try {
      const found = Object.entries((await get(at("settings"), signal)).settings);
      const groups = new Map();
      for (const pair of found) {
        const group = pair[0].includes(".") ? pair[0].split(".")[0] : "";
        groups.set(group, [...(groups.get(group) ?? []), pair]);
      }
      content.replaceChildren(...[...groups].map(([group, pairs]) => h("section", {},
        h("h2", {}, group || "General"),
        facts(pairs.map(([key, value]) => [h("code", {}, key), shown(value) === "" ? h("span", { class: "muted" }, "empty") : shown(value)])))));
    } catch (error) {
      if (error.name === "AbortError") return;
      content.replaceChildren(isMissing(error)
        ? h("p", { class: "muted" }, "Not available on this server.") : problem(error, load));
    }
  };
  await load();
}
