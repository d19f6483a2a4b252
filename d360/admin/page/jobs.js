// Studies on their way to a remote AE.

import { at, call, get } from "./api.js";
import { announce, button, field, h, notice } from "./dom.js";
import { ask } from "./dialogs.js";
import { counted, number } from "./format.js";
import { poll } from "./polling.js";

function words(job) {
  const failed = job.failed ? `, ${number(job.failed)} failed` : "";
  const sent = `${number(job.completed)} of ${number(job.total)} sent${failed}`;
  switch (job.state) {
    case "running": return job.total ? sent : "Beginning";
    case "done": return job.failed ? `Ended: ${sent}` : `All ${counted(job.total, "instance")} sent`;
    case "cancelled": return `Cancelled: ${sent}`;
    default: return `Failed: ${sent}`;
  }
}

/** One job, with a link to its study. */
export function jobRow(job) {
  return h("li", { class: "job" },
    h("a", { href: `#/studies/${encodeURIComponent(job.StudyInstanceUID)}` }, `To ${job.aet}`), " ",
    h("span", { class: job.state === "failed" || job.failed ? "state bad" : "" }, words(job)),
    job.error ? h("span", { class: "words" }, job.error) : null);
}

/** The jobs of one study, followed to their end. */
export class StudyJobs {
  constructor(study, signal) {
    this.study = study;
    this.signal = signal;
    this.list = h("ul", { class: "plain" });
    this.element = h("section", { class: "panel", hidden: true }, h("h2", {}, "Sending"), this.list);
  }

  /** Those that run already. */
  async find() {
    const { jobs } = await get(at("jobs"), this.signal);
    for (const job of jobs) {
      if (job.StudyInstanceUID === this.study && job.state === "running") this.follow(job.id, job.aet);
    }
  }

  async choose() {
    const { aes } = await get(at("aes"), this.signal);
    if (!aes.length) {
      await ask("Send this study", h("p", {}, "No remote AE is known yet. Add the one that is to receive it."), {
        action: "Go to Remote AEs", submit: async () => { location.hash = "#/aes"; },
      });
      return;
    }
    const to = field("To", h("select", { id: "to" }, aes.map((one) =>
      h("option", { value: one.aet }, `${one.aet} (${one.host}:${one.port})`))));
    const begun = await ask("Send this study", to, {
      action: "Send", focus: to.control,
      submit: async () => {
        const aet = to.control.value;
        const { data } = await call("POST", at("studies", this.study, "send"), { body: { aet } });
        return { id: data.id, aet };
      },
    });
    if (begun) this.follow(begun.id, begun.aet);
  }

  follow(id, aet) {
    const bar = h("progress", { max: "1", "aria-label": `Sent to ${aet}` });
    const state = h("span", {}, "Beginning");
    const failure = h("p", { class: "words", role: "alert" });
    const cancel = button("Cancel", async () => {
      cancel.disabled = true;
      state.textContent = "Cancelling after the instance that is under way";
      try {
        await call("DELETE", at("jobs", id));
      } catch (error) {
        cancel.disabled = false;
        failure.textContent = `${error.message} ${error.advice}`;
      }
    }, { "aria-label": `Cancel sending to ${aet}` });
    this.list.append(h("li", { class: "job" }, h("strong", {}, `To ${aet}`), bar, state, cancel, failure));
    this.element.hidden = false;
    announce(`Sending to ${aet} has begun.`);
    poll(0.7, async () => {
      let job;
      try {
        job = await get(at("jobs", id), this.signal);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        failure.textContent = `${error.message} ${error.advice}`;
        return error.status !== 404;
      }
      bar.max = job.total || 1;
      bar.value = job.completed;
      if (job.state === "running") {
        if (!cancel.disabled) state.textContent = words(job);
        return true;
      }
      state.textContent = words(job);
      state.className = job.state === "failed" || job.failed ? "state bad" : "";
      failure.textContent = job.error
        ? `${job.error}. Test ${aet} under Remote AEs, then send again.` : "";
      if (document.activeElement === cancel) document.getElementById("send")?.focus();
      cancel.remove();
      bar.remove();
      notice(`To ${aet}: ${words(job)}.`);
      return false;
    }, this.signal);
  }
}
