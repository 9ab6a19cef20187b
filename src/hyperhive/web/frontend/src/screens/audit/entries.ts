/* All pages of the audit, and its channels in words. */

import { request } from "../../lib/api";
import type { AuditEntry } from "../../lib/protocol";

const PAGE = 1000;

export const WAYS: Readonly<Record<string, string>> = {
  web: "on the web", cli: "on the command line", socket: "by its socket", mcp: "by a tool", library: "by a program", ntfy: "from a notice", system: "by itself",
};

export async function everything(agent: string | undefined): Promise<readonly AuditEntry[]> {
  const all: AuditEntry[] = [];
  for (;;) {
    const before = all.at(-1)?.id;
    const { entries } = await request({ cmd: "audit", limit: PAGE, ...(agent ? { agent } : {}), ...(before ? { before } : {}) });
    if (entries.length === 0) return all;
    all.push(...entries);
  }
}
