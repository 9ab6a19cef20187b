/*
 * Lines of a log as rows: the hive's own are JSON (time, level, event, fields), an agent's are words. What matches a
 * filter, and which lines are new. Pure.
 */

export interface LogLine {
  /** Unix seconds, where the line says when. */
  readonly at?: number;
  readonly level: Level;
  readonly text: string;
  readonly raw: string;
}

export type Level = "debug" | "info" | "warning" | "error" | "none";

export const LEVELS: readonly Level[] = ["debug", "info", "warning", "error"];

const STAMP = /^\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)\]?\s+/u;
const LEVEL = /^(debug|info|warning|warn|error|critical|err)\b:?\s*/iu;

export function parseLine(raw: string): LogLine {
  const fields = fieldsOf(raw);
  if (fields) {
    const { timestamp, level, event, logger: _, ...others } = fields; // which module said it: in the copy
    const rest = Object.entries(others).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
    return { ...stamped(timestamp), level: levelOf(level), text: [String(event ?? ""), ...rest].join(" "), raw };
  }
  const stamp = STAMP.exec(raw);
  const said = stamp ? raw.slice(stamp[0].length) : raw;
  const level = stamp ? LEVEL.exec(said) : null;
  return { ...stamped(stamp?.[1]), level: level ? levelOf(level[1]) : "none", text: level ? said.slice(level[0].length) : said, raw };
}

function fieldsOf(raw: string): Readonly<Record<string, unknown>> | undefined {
  if (!raw.startsWith("{")) return undefined;
  try {
    const found: unknown = JSON.parse(raw);
    return typeof found === "object" && found !== null && "event" in found ? (found as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function stamped(value: unknown): { at?: number } {
  if (typeof value !== "string") return {};
  const zoned = /(?:Z|[+-]\d\d:?\d\d)$/u.test(value) ? value : `${value}Z`;
  const at = Date.parse(zoned.replace(" ", "T"));
  return Number.isNaN(at) ? {} : { at: Math.floor(at / 1000) };
}

function levelOf(value: unknown): Level {
  const word = String(value).toLowerCase();
  if (word.startsWith("warn")) return "warning";
  if (word === "critical" || word === "err" || word === "exception") return "error";
  return (LEVELS as readonly string[]).includes(word) ? (word as Level) : "none";
}

export interface LogFilter {
  /** From this level on; lines without one always pass. */
  readonly level: Level;
  /** Words; `!` in front keeps what does not have them, `/…/` is a regular expression. */
  readonly words: string;
}

/** Keeps what matches; throws nothing: an expression that is none matches as plain text. */
export function matcher(filter: LogFilter): (line: LogLine) => boolean {
  const inverse = filter.words.startsWith("!");
  const words = inverse ? filter.words.slice(1) : filter.words;
  const least = LEVELS.indexOf(filter.level);
  const has = finder(words);
  return (line) => (line.level === "none" || LEVELS.indexOf(line.level) >= least) && (words === "" || has(line.text) !== inverse);
}

function finder(words: string): (text: string) => boolean {
  const pattern = /^\/(.+)\/$/su.exec(words)?.[1];
  if (pattern !== undefined) {
    try {
      const expression = new RegExp(pattern, "iu");
      return (text) => expression.test(text);
    } catch {
      // No expression: its text is looked for.
    }
  }
  const wanted = words.toLowerCase();
  return (text) => text.toLowerCase().includes(wanted);
}

/** How many lines of `now` came after what was known; where lines repeat, it may be fewer than there were. */
export function newLines(before: readonly string[], now: readonly string[]): number {
  const last = before.at(-1);
  if (last === undefined) return 0;
  for (let from = now.length - 1; from >= 0; from -= 1) {
    const overlap = Math.min(3, from + 1, before.length);
    if (Array.from({ length: overlap }, (_, n) => n).every((n) => now[from - n] === before.at(-1 - n))) return now.length - 1 - from;
  }
  return now.length;
}
