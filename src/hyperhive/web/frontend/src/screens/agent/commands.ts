// What the send box understands beside text: `/command argument`. Pure.

export interface Command {
  readonly name: string;
  readonly argument?: string;
  readonly about: string;
}

export const COMMANDS: readonly Command[] = [
  { name: "cancel", about: "interrupt the running turn; its messages become dead letters" },
  { name: "compact", about: "compact the session now (not while a turn runs)" },
  { name: "model", argument: "NAME", about: "use this model from the next turn on" },
  { name: "new-session", about: "the next turn starts without memory of the ones before" },
];

export type Parsed =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "command"; readonly name: string; readonly argument: string }
  | { readonly kind: "fault"; readonly says: string };

/** What sending this would do. A text that begins with two slashes is sent with one. */
export function parseInput(given: string): Parsed {
  const text = given.trim();
  if (text.startsWith("//")) return { kind: "text", text: text.slice(1) };
  const found = /^\/([a-z-]*)(?:\s+([\s\S]*))?$/.exec(text);
  if (!found) return { kind: "text", text };
  const [, name = "", argument = ""] = found;
  const command = COMMANDS.find((each) => each.name === name);
  if (!command) return { kind: "fault", says: `there is no /${name}; to send a text that begins with a slash, write two` };
  if (command.argument && !/^\S+$/.test(argument.trim())) return { kind: "fault", says: `/${name} ${command.argument}: ${command.about}` };
  if (!command.argument && argument.trim()) return { kind: "fault", says: `/${name} takes nothing more` };
  return { kind: "command", name, argument: argument.trim() };
}
