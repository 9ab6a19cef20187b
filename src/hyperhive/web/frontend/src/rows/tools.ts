/**
 * Tool calls and their results as a person reads them. Pure.
 *
 * A tool that is not known is printed by its arguments, so nothing is ever hidden. The hive's own tools `send`, `ask`,
 * `answer` and `recv` are mail: they are open from the start, their bodies markdown.
 */

import { contentOf, firstLine, list, obj, plain, str, type Json } from "./frames";
import { countLines, diffLines } from "./linediff";
import type { Block, Letter, Todo, ToolResult, ToolView } from "./types";

const HIVE = "hyperhive";
const MAIL_TOOLS = new Set(["send", "ask", "answer", "recv"]);

type Printer = (input: Json) => Omit<ToolView, "label" | "open">;

/** The server and the tool of an MCP name (`mcp__SERVER__TOOL`); a built-in tool has no server. */
export function splitName(name: string): { server?: string; tool: string } {
  const found = /^mcp__(.+?)__(.+)$/s.exec(name);
  return found ? { server: found[1] as string, tool: found[2] as string } : { tool: name };
}

/** How a call of this tool with this input is shown. */
export function viewOfCall(name: string, given: unknown): ToolView {
  const input = obj(given);
  const { server, tool } = splitName(name);
  if (server === HIVE) {
    const printer = HIVE_TOOLS.get(tool) ?? generic;
    return { label: tool, ...printer(input), server, open: MAIL_TOOLS.has(tool) };
  }
  if (server !== undefined) return { label: `${server}.${tool}`, ...generic(input), server, open: false };
  const printer = BUILT_IN.get(tool) ?? generic;
  return { label: tool || "?", ...printer(input), open: OPEN.has(tool) };
}

/** How the result of a call is shown. */
export function viewOfResult(name: string, content: unknown, error: boolean): ToolResult {
  const { server, tool } = splitName(name);
  const { text, others } = contentOf(content);
  const extra: Block[] = others.map((other): Block => ({ kind: "code", text: `[${other}]` }));
  if (server === HIVE && !error) {
    const status = /\n*^(inbox: \d+ unread)\s*$(?![\s\S])/m.exec(text);
    const body = status ? text.slice(0, status.index) : text;
    const letters = tool === "recv" ? lettersOf(body) : undefined;
    const block: Block = letters ? { kind: "mail", letters } : { kind: "code", text: body };
    return { blocks: [block, ...extra], error, text };
  }
  const shown = text.replace(/^<tool_use_error>([\s\S]*)<\/tool_use_error>$/, "$1");
  const blocks: Block[] = shown ? [{ kind: "code", text: shown }] : [];
  return { blocks: [...blocks, ...extra], error, text: shown };
}

/** The messages that `recv` shows; nothing where the text is not of that form. */
export function lettersOf(text: string): Letter[] | undefined {
  const body = text.replace(/^popped \d+ message\(s\)\n---\n/, "");
  const letters: Letter[] = [];
  for (const part of body.split(/^---\n(?=(?:\[redelivered[^\n]*\]\n)?from: )/m)) {
    const found = /^((?:\[[^\n]*\]\n)*)from: ([^\n]*)\n\n([\s\S]*)$/.exec(part);
    if (!found) return undefined;
    letters.push({
      from: found[2] as string,
      body: (found[3] as string).replace(/\n$/, ""),
      redelivered: (found[1] as string).includes("[redelivered"),
    });
  }
  return letters;
}

// --- printers -------------------------------------------------------------------------------------------------------

function fields(input: Json, without: readonly string[] = []): Block[] {
  const rows = Object.entries(input)
    .filter(([name, value]) => !without.includes(name) && value !== undefined && value !== null)
    .map(([name, value]): readonly [string, string] => [name, plain(value)]);
  return rows.length ? [{ kind: "fields", fields: rows }] : [];
}

function generic(input: Json): ReturnType<Printer> {
  const title = Object.entries(input)
    .map(([name, value]) => `${name}: ${firstLine(typeof value === "string" ? value : JSON.stringify(value) ?? "", 60)}`)
    .join(", ");
  return { title: firstLine(title, 160), blocks: fields(input) };
}

function editBlock(before: unknown, after: unknown): { block: Block; mark: string } {
  const lines = diffLines(str(before), str(after));
  const { added, removed } = countLines(lines);
  return { block: { kind: "diff", lines }, mark: `+${added} −${removed}` };
}

function edit(input: Json): ReturnType<Printer> {
  const { block, mark } = editBlock(input["old_string"], input["new_string"]);
  const all = input["replace_all"] === true ? ", every occurrence" : "";
  return { title: `${str(input["file_path"], "?")}  ${mark}${all}`, blocks: [block] };
}

function multiEdit(input: Json): ReturnType<Printer> {
  const edits = list(input["edits"]).map(obj);
  const parts = edits.map((one) => editBlock(one["old_string"], one["new_string"]));
  return {
    title: `${str(input["file_path"], "?")}  ${edits.length} edits`,
    blocks: parts.map((part) => part.block),
  };
}

function write(input: Json): ReturnType<Printer> {
  const { block, mark } = editBlock("", input["content"]);
  return { title: `${str(input["file_path"], "?")}  ${mark}`, blocks: [block] };
}

function bash(input: Json): ReturnType<Printer> {
  const command = str(input["command"], plain(input["command"]));
  const why = str(input["description"]);
  const background = input["run_in_background"] === true ? " (in the background)" : "";
  const rest = fields(input, ["command", "description", "run_in_background", "timeout"]);
  return {
    title: firstLine(command, 160) + background,
    blocks: [
      { kind: "code", text: `$ ${command}` },
      ...(why ? [{ kind: "fields", fields: [["why", why]] } as Block] : []),
      ...rest,
    ],
  };
}

function read(input: Json): ReturnType<Printer> {
  const from = input["offset"] === undefined ? "" : ` from line ${plain(input["offset"])}`;
  const count = input["limit"] === undefined ? "" : `, ${plain(input["limit"])} lines`;
  return { title: `${str(input["file_path"], "?")}${from}${count}`, blocks: [] };
}

function grep(input: Json): ReturnType<Printer> {
  const where = str(input["path"]) || str(input["glob"]) || str(input["type"]);
  const rest = fields(input, ["pattern", "path", "output_mode"]);
  return { title: `/${str(input["pattern"])}/${where ? ` in ${where}` : ""}`, blocks: rest };
}

function glob(input: Json): ReturnType<Printer> {
  const where = str(input["path"]);
  return { title: `${str(input["pattern"])}${where ? ` in ${where}` : ""}`, blocks: [] };
}

function todos(input: Json): ReturnType<Printer> {
  const items = list(input["todos"]).map((given): Todo => {
    const item = obj(given);
    const state = str(item["status"]);
    return {
      text: str(item["content"]) || str(item["subject"]),
      state: state === "completed" || state === "in_progress" ? state : "pending",
    };
  });
  const done = items.filter((item) => item.state === "completed").length;
  return { title: `${done} of ${items.length} done`, blocks: [{ kind: "todos", items }] };
}

function task(input: Json): ReturnType<Printer> {
  const who = str(input["subagent_type"]);
  const what = str(input["description"]) || firstLine(str(input["prompt"]), 120);
  const prompt = str(input["prompt"]);
  return {
    title: who ? `${what} (${who})` : what,
    blocks: prompt ? [{ kind: "markdown", text: prompt }] : [],
  };
}

function fetchPage(input: Json): ReturnType<Printer> {
  return { title: str(input["url"]) || str(input["query"]), blocks: fields(input, ["url", "query"]) };
}

function send(input: Json): ReturnType<Printer> {
  const urgency = str(input["urgency"]);
  return {
    title: `to ${str(input["to"], "?")}${urgency && urgency !== "next_turn" ? `, ${urgency}` : ""}`,
    blocks: [{ kind: "markdown", text: str(input["body"]) }],
  };
}

function ask(input: Json): ReturnType<Printer> {
  const options = list(input["options"]).map(plain);
  const ttl = input["ttl_seconds"] === undefined ? "" : `, for ${plain(input["ttl_seconds"])} s`;
  return {
    title: `${str(input["to"], "operator")}${input["multi"] === true ? ", several choices" : ""}${ttl}`,
    blocks: [
      { kind: "markdown", text: str(input["question"]) },
      ...(options.length
        ? [{ kind: "fields", fields: options.map((one, n) => [`${n + 1}`, one] as const) } as Block]
        : []),
    ],
  };
}

function answer(input: Json): ReturnType<Printer> {
  return { title: `question ${plain(input["id"])}`, blocks: [{ kind: "markdown", text: str(input["answer"]) }] };
}

function recv(input: Json): ReturnType<Printer> {
  const max = input["max"] === undefined ? "1 message" : `up to ${plain(input["max"])} messages`;
  const wait = input["wait_seconds"] === undefined ? "" : `, waiting ${plain(input["wait_seconds"])} s`;
  return { title: max + wait, blocks: [] };
}

// Maps, because a tool's name is the agent's own word, and "constructor" is a name too.
const HIVE_TOOLS: ReadonlyMap<string, Printer> = new Map([
  ["send", send],
  ["ask", ask],
  ["answer", answer],
  ["recv", recv],
]);

const BUILT_IN: ReadonlyMap<string, Printer> = new Map([
  ["Bash", bash],
  ["Read", read],
  ["NotebookRead", read],
  ["Grep", grep],
  ["Glob", glob],
  ["LS", (input: Json) => ({ title: str(input["path"]), blocks: [] })],
  ["Edit", edit],
  ["MultiEdit", multiEdit],
  ["Write", write],
  ["TodoWrite", todos],
  ["Task", task],
  ["Agent", task],
  ["WebFetch", fetchPage],
  ["WebSearch", fetchPage],
]);

/** Built-in tools whose body is what a reader wants to see. */
const OPEN: ReadonlySet<string> = new Set(["Edit", "MultiEdit", "Write", "TodoWrite"]);
