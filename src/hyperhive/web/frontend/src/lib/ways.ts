// By which way something was decided, in words: the channel that the audit names.
const WAYS: Readonly<Record<string, string>> = { web: "on the web", host: "on the command line", tools: "by a tool", embedded: "by a tool", library: "by a program", core: "" };

export function wayOf(channel: string): string {
  return WAYS[channel] ?? `by ${channel}`;
}
