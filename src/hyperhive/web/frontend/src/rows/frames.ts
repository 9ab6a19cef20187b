/**
 * Reading frames of an agent's stream without trusting their shape.
 *
 * A frame is what the CLI printed, so every field may be absent or of another type. These readers give a plain value or
 * a default, never an exception. What a frame means stands in `model.ts`.
 */

/** One event as it comes by the stream or from the history. `ts`: unix seconds, on history frames. */
export interface Frame {
  readonly kind: string;
  readonly seq?: number;
  readonly eid?: number;
  readonly turn?: number;
  readonly ts?: number;
  readonly [field: string]: unknown;
}

export type Json = Readonly<Record<string, unknown>>;

const NOTHING: Json = {};

export function obj(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : NOTHING;
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function str(value: unknown, otherwise = ""): string {
  return typeof value === "string" ? value : otherwise;
}

export function num(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** A value for a person: text as it is, everything else as JSON. */
export function plain(value: unknown): string {
  if (typeof value === "string") return value;
  return value === undefined ? "" : JSON.stringify(value, undefined, 2);
}

/** The first line that is not blank, and an ellipsis where there is more. */
export function firstLine(text: string, limit = 200): string {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  const first = lines[0] ?? "";
  const cut = first.length > limit ? `${first.slice(0, limit)}…` : first;
  return lines.length > 1 && cut === first ? `${cut} …` : cut;
}

/** When it happened, in unix seconds: by the log, the CLI, or the time that it came. */
export function timeOf(frame: Frame, arrived?: number): number | undefined {
  if (typeof frame.ts === "number") return frame.ts;
  const stamped = Date.parse(str(frame["timestamp"]));
  if (!Number.isNaN(stamped)) return Math.floor(stamped / 1000);
  return num(frame["since_unix"]) ?? arrived;
}

export interface Content {
  readonly text: string;
  /** What is there beside text: images, references. */
  readonly others: readonly string[];
}

/** The content of a tool's result or a user's message: text, or blocks. */
export function contentOf(content: unknown): Content {
  if (typeof content === "string") return { text: content, others: [] };
  const texts: string[] = [];
  const others: string[] = [];
  for (const block of list(content).map(obj)) {
    const kind = str(block["type"], "?");
    if (kind === "text") texts.push(str(block["text"]));
    else if (kind === "image") others.push(`image, ${str(obj(block["source"])["media_type"], "of unknown type")}`);
    else if (kind === "tool_reference") others.push(`tool ${str(block["tool_name"], "?")}`);
    else others.push(`${kind}: ${firstLine(plain(block), 120)}`);
  }
  return { text: texts.join("\n"), others };
}
