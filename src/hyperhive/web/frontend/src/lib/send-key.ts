// The key under which a message is sent: the hive takes one key once (for a day), so that a second try after an answer
// that never came sends nothing twice. Another text or recipient is another message. Pure but for chance.

/**
 * What to keep beside a draft before each try: the key, a space, what it stands for.
 * `kept`: what was kept at the last try, or "".
 */
export function keptFor(kept: string, to: string, body: string): string {
  const what = `${to}\n${body}`;
  return keyIn(kept) !== "" && kept.slice(keyIn(kept).length + 1) === what ? kept : `${fresh()} ${what}`;
}

export function keyIn(kept: string): string {
  return kept.slice(0, Math.max(0, kept.indexOf(" ")));
}

/** Works where `crypto.randomUUID` does not: on pages over plain http from elsewhere than this machine. */
function fresh(): string {
  return `web-${[...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(16).padStart(8, "0")).join("")}`;
}
