// DICOM's and the server's values as people read them.

const count = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 });

export const number = (value) =>
  value === null || value === undefined || value === "" ? "" : count.format(Number(value));

/** "1 study", "2 studies". */
export const counted = (n, one, many = `${one}s`) => `${number(n)} ${Number(n) === 1 ? one : many}`;

/** Any value as text: lists joined, DICOM JSON names by their first group. */
export function text(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(text).join(", ");
  if (typeof value === "object") return text(value.Alphabetic ?? JSON.stringify(value));
  return String(value);
}

function components(group) {
  const [family = "", given = "", middle = "", prefix = "", suffix = ""] =
    group.split("^").map((part) => part.trim());
  const rest = [prefix, given, middle].filter(Boolean).join(" ");
  return [family, rest, suffix].filter(Boolean).join(", ");
}

/** Rossi^Anna as Rossi, Anna; other writings of the name in parentheses. */
export function personName(value) {
  const groups = text(value).split("=").map((group) => group.trim());
  const [first, ...others] = groups.map(components).filter(Boolean);
  if (!first) return "";
  const shown = others.map((other) => other.replaceAll(", ", " ")).join("; ");
  return shown ? `${first} (${shown})` : first;
}

/** What a person types as a name, as DICOM has it: Rossi, Anna as Rossi^Anna. */
export function asPersonName(typed) {
  const name = typed.trim();
  if (name.includes("^") || !name.includes(",")) return name;
  const [family, ...rest] = name.split(",").map((part) => part.trim());
  return [family, ...rest].join("^").replace(/\^+$/, "");
}

export function date(value) {
  const found = /^(\d{4})(\d\d)(\d\d)$/.exec(text(value));
  return found ? `${found[1]}-${found[2]}-${found[3]}` : text(value);
}

export function time(value) {
  const found = /^(\d\d)(\d\d)?(\d\d)?(\.\d+)?$/.exec(text(value));
  return found ? `${found[1]}:${found[2] ?? "00"}` : text(value);
}

export const dateTime = (day, clock) => [date(day), time(clock)].filter(Boolean).join(" ");

export function size(bytes) {
  if (bytes === null || bytes === undefined || bytes === "") return "";
  let value = Number(bytes);
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (value < 999.5) return `${value < 9.95 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} PB`;
}

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const from = parts.findIndex(([length]) => s >= length);
  if (from < 0) return "0 s";
  let rest = s;
  return parts.slice(from, from + 2).map(([length, unit]) => {
    const n = Math.floor(rest / length);
    rest %= length;
    return n || unit === parts[from][1] ? `${n} ${unit}` : "";
  }).filter(Boolean).join(" ");
}

const two = (n) => String(n).padStart(2, "0");

export const day = (t) => `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
export const clock = (t) => `${two(t.getHours())}:${two(t.getMinutes())}`;

/** When, in the time of the person's place. */
export function moment(value) {
  const t = typeof value === "number" ? new Date(value * 1000) : new Date(value);
  if (Number.isNaN(t.getTime())) return text(value);
  return `${day(t)} ${clock(t)}:${two(t.getSeconds())}`;
}

/** "F" as "Female". */
export const sex = (value) => ({ F: "Female", M: "Male", O: "Other" })[value] ?? text(value);

export const patient = (study) => personName(study.PatientName) || "(no name)";
