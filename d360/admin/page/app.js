// Which view is shown: the part of the address behind the "#".

import { askAgain, tokensFrom } from "./api.js";
import { aes } from "./aes.js";
import { commitments } from "./commitments.js";
import { askForToken } from "./dialogs.js";
import { h } from "./dom.js";
import { overview } from "./overview.js";
import { settings } from "./settings.js";
import { series, studies, study } from "./studies.js";
import { worklist } from "./worklist.js";
import { worklistItem } from "./worklistitem.js";

const VIEWS = [
  [/^\/$/, "Overview", overview],
  [/^\/studies$/, "Studies", studies],
  [/^\/studies\/([^/]+)$/, "Study", study],
  [/^\/studies\/([^/]+)\/series\/([^/]+)$/, "Series", series],
  [/^\/worklist$/, "Worklist", worklist],
  [/^\/worklist\/([^/]+)$/, "Worklist item", worklistItem],
  [/^\/aes$/, "Remote AEs", aes],
  [/^\/commitments$/, "Storage commitments", commitments],
  [/^\/settings$/, "Settings", settings],
];

const main = document.getElementById("main");
let leave = new AbortController();
let shown = null;

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function show() {
  const [path, search = ""] = (location.hash.slice(1) || "/").split("?");
  askAgain();
  leave.abort();
  leave = new AbortController();
  const focused = path === shown ? document.activeElement?.id : "";
  const first = shown === null;
  shown = path;
  main.replaceChildren();
  // A question is of the view that asked it.
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  const found = VIEWS.find(([pattern]) => pattern.test(path));
  const title = found ? found[1] : "Not found";
  document.title = `${title} – D360`;
  for (const link of document.querySelectorAll("#views a")) {
    const here = link.hash.slice(1);
    if (here === path || (here !== "/" && path.startsWith(`${here}/`))) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!found) {
    main.append(h("h1", {}, "There is no such view"), h("p", {}, h("a", { href: "#/" }, "Go to the overview")));
  } else {
    const parts = found[0].exec(path).slice(1).map(decode);
    found[2](main, { parts, search: new URLSearchParams(search), signal: leave.signal });
  }
  const keep = focused && document.getElementById(focused);
  if (keep) {
    keep.focus();
  } else if (!first) {
    window.scrollTo(0, 0);
    main.focus();
  }
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
  main.scrollIntoView();
});
tokensFrom(askForToken);
window.addEventListener("hashchange", show);
show();
