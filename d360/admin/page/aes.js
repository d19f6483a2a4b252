// The remote AEs: listed, added, edited, removed, tested.

import { CallError, at, call, get } from "./api.js";
import { ask } from "./dialogs.js";
import { announce, button, choice, field, h, loading, notice, table } from "./dom.js";
import { counted, number } from "./format.js";
import { problem } from "./problems.js";

// What a remote AE may do when it calls; the names are those of the calls.
const MAY = [
  ["store", "Store", "send instances to D360, and have it confirm that they are kept"],
  ["query", "Query", "look for studies"],
  ["retrieve", "Retrieve", "have instances sent to it"],
  ["worklist", "Worklist", "ask what it is to do"],
];

const mayOf = (one) => MAY.filter(([name]) => one.permissions.includes(name)).map(([, label]) => label).join(", ") || "Nothing";

const securityOf = (one) => [one.tls && "TLS", one.certificate && "certificate"].filter(Boolean).join(", ");

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
  const may = MAY.map(([name, label, words]) => choice(`may-${name}`, label, words, !known || known.permissions.includes(name)));
  const tls = choice("tls", "TLS", "D360 calls it over TLS", Boolean(known?.tls));
  const certificate = field("Certificate", h("input", {
    id: "certificate", autocomplete: "off", spellcheck: "false", value: known?.certificate,
  }), "The SHA-256 fingerprint of the one that it has to show when it calls; empty for none.");
  const content = [title, host, port,
    h("fieldset", { class: "choices" }, h("legend", {}, "When it calls D360, it may"), may), tls, certificate];
  return ask(known ? `Edit ${known.aet}` : "Add a remote AE", content, {
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
        body: {
          host: host.control.value.trim(),
          port: Number(port.control.value),
          permissions: MAY.map(([name]) => name).filter((_, i) => may[i].control.checked),
          tls: tls.control.checked,
          certificate: certificate.control.value.trim(),
        },
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
    h("p", { class: "muted" }, "Workstations, modalities and archives that D360 opens associations with, and what they may do when they call. A change holds from the next association on."),
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
        { name: "May", cell: ({ one }) => mayOf(one) },
        { name: "Security", cell: ({ one }) => securityOf(one) },
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
