/* All pages of the audit. */

import { request } from "../../lib/api";
import type { AuditEntry } from "../../lib/protocol";

const PAGE = 1000;

export async function everything(agent: string | undefined): Promise<readonly AuditEntry[]> {
  const all: AuditEntry[] = [];
  for (;;) {
    const before = all.at(-1)?.id;
    const { entries } = await request({ cmd: "audit", limit: PAGE, ...(agent ? { agent } : {}), ...(before ? { before } : {}) });
    if (entries.length === 0) return all;
    all.push(...entries);
  }
}
