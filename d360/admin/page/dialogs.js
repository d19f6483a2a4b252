// Questions to the person: modal, closed by Escape, focus back where it was.

import { button, h } from "./dom.js";

let titles = 0;

/**
 * Ask, and do what is asked for.
 * @param title what it is about
 * @param content nodes
 * @param options {action: text of the button, danger, submit: async () -> any,
 *   focus: element, ready: () -> boolean that must hold before it can be done}
 * @returns what submit returned, or null if it was cancelled
 */
export function ask(title, content, options) {
  const opener = document.activeElement;
  const id = `dialog${++titles}`;
  const failure = h("div", { role: "alert" });
  const cancel = button("Cancel", () => dialog.close());
  const go = h("button", { class: options.danger ? "danger" : "primary" }, options.action);
  const form = h("form", { novalidate: false },
    h("h2", { id }, title), content, failure,
    h("div", { class: "buttons" }, cancel, go));
  const dialog = h("dialog", { "aria-labelledby": id }, form);
  let result = null;

  const check = () => { go.disabled = options.ready ? !options.ready() : false; };
  form.addEventListener("input", check);
  check();

  return new Promise((resolve) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (go.disabled) return;
      go.disabled = cancel.disabled = true;
      form.setAttribute("aria-busy", "true");
      failure.replaceChildren();
      try {
        result = (await options.submit()) ?? true;
        dialog.close();
      } catch (error) {
        failure.replaceChildren(h("div", { class: "problem" },
          h("p", {}, h("strong", {}, error.message)),
          error.advice ? h("p", {}, error.advice) : null));
      } finally {
        form.removeAttribute("aria-busy");
        cancel.disabled = false;
        check();
      }
    });
    // What is under way cannot be called back.
    dialog.addEventListener("cancel", (event) => { if (cancel.disabled) event.preventDefault(); });
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (opener?.isConnected) opener.focus();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
    (options.focus ?? (options.danger ? cancel : go)).focus();
  });
}

/** For the token of this server; null if the person has none. */
export function askForToken(wrong) {
  const input = h("input", {
    id: "token", type: "password", autocomplete: "current-password", required: true,
    spellcheck: "false",
  });
  return ask("Token", [
    h("p", {}, wrong
      ? "This is not the token of this server. Look it up and enter it again."
      : "This server asks for a token. It is the value of web.token in its configuration."),
    // For those who let the browser keep it.
    h("input", { autocomplete: "username", value: "d360", hidden: true }),
    h("div", { class: "field" }, h("label", { for: "token" }, "Token"), input,
      h("small", {}, "It is kept until this tab is closed.")),
  ], { action: "Use it", focus: input, submit: async () => input.value.trim() });
}
