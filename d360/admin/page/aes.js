// The remote AEs: listed, added, edited, removed, tested.

import { CallError, at, call, get } from "./api.js";
import { ask } from "./dialogs.js";
import { announce, button, field, h, loading, notice, table } from "./dom.js";
import { counted, number } from "./format.js";
import { problem } from "./problems.js";

/** Add one, or edit the one that is given; whether something was saved. */
async function edit(known) {
  const title = field("AE title", h("input", {
    id: "aet", required: true, maxlength: "16", autocomplete: "off", spellcheck: "false",
    autocapitalize: "characters", value: known?.aet, readonly: Boolean(known),
  }), known ? "To give it another title, add it anew and remove this one." : "1 to 16 characters; capitals count.");
  const host = field("Host", h("input", {
    id: "host", required: true, autocomplete: "off", spellcheck: "false", value: known?.host,
  }), "A name or an IP address.");
  const port = field("Port", h("input", {
    id: "port", type: "number", required: true, min: "1", max: "65535", inputmode: "numeric", value: known?.port ?? "104",
  }), "104 or 11112 as a rule.");
  return ask(known ? `Edit ${known.aet}` : "Add a remote AE", [title, host, port], {
    action: known ? "Save" : "Add",
    focus: known ? host.control : title.control,
    submit: async () => {
      const aet = title.control.value.trim();
      if (aet === "." || aet === "..") {
        throw new CallError(400, "A browser cannot add an AE title of dots alone.", `Use d360ctl ae add ${aet} HOST PORT.`);
      }
      // One that is added must not replace another silently.
      const there = known ? null : (await get(at("aes"))).aes.find((one) => one.aet === aet);
      if (there) {
        throw new CallError(409, `${aet} is known already, at ${there.host}, port ${there.port}.`,
          "Edit that one, or choose another title.");
      }
      const saved = await call("PUT", at("aes", aet), {
        body: { host: host.control.value.trim(), port: Number(port.control.value) },
      });
      notice(`${aet} is ${saved.status === 201 ? "added" : "saved"}.`);
    },
  });
}

async function remove(one) {
  return ask(`Remove ${one.aet}?`, [
    h("p", {}, `D360 will no longer know ${one.aet} at ${one.host}, port ${one.port}: nothing can be sent to it.`),
    h("p", {}, "Studies are not touched."),
  ], {
    action: `Remove ${one.aet}`, danger: true,
    submit: async () => {
      await call("DELETE", at("aes", one.aet));
      notice(`${one.aet} is removed.`);
    },
  });
}

async function echo(one, result, go) {
  go.disabled = true;
  result.className = "echo";
  result.textContent = "Calling …";
  try {
    const { data } = await call("POST", at("aes", one.aet, "echo"));
    result.classList.add(data.ok ? "good" : "bad");
    result.textContent = data.ok ? `Answers within ${number(data.milliseconds)} ms` : data.error;
  } catch (error) {
    result.classList.add("bad");
    result.textContent = `${error.message} ${error.advice}`;
  } finally {
    go.disabled = false;
    go.focus();
  }
}

export async function aes(place, { signal }) {
  const content = h("div", {}, loading("the remote AEs"));
  const add = button("Add a remote AE", async () => { if (await edit(null)) await load(true); }, { class: "primary", id: "add" });
  place.append(
    h("div", { class: "head" }, h("h1", {}, "Remote AEs"), add),
    h("p", { class: "muted" }, "Workstations, modalities and archives that D360 opens associations with. A change holds from the next association on."),
    content);

  const row = (one) => {
    const result = h("span", { class: "echo", role: "status" });
    const go = button("Echo", () => echo(one, result, go), { "aria-label": `Echo ${one.aet}` });
    return { one, result, go };
  };

  async function load(changed) {
    try {
      const rows = (await get(at("aes"), signal)).aes.map(row);
      const again = async (done) => { if (await done) { await load(true); add.focus(); } };
      content.replaceChildren(rows.length ? table("Remote AEs", [
        { name: "AE title", header: true, cell: ({ one }) => one.aet },
        { name: "Host", cell: ({ one }) => one.host },
        { name: "Port", number: true, cell: ({ one }) => String(one.port) },
        { name: "Answer", cell: ({ result }) => result },
        {
          name: "Actions", actions: true, cell: ({ one, go }) => [go,
            button("Edit", () => again(edit(one)), { "aria-label": `Edit ${one.aet}` }),
            button("Remove", () => again(remove(one)), { "aria-label": `Remove ${one.aet}`, class: "quiet danger" })],
        },
      ], rows).element : h("p", { class: "empty" }, "No remote AE is known yet. Add those that are to receive studies."));
      if (!changed) announce(counted(rows.length, "remote AE"));
    } catch (error) {
      if (error.name !== "AbortError") content.replaceChildren(problem(error, () => load()));
    }
  }
  await load();
}
