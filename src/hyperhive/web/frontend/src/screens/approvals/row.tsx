/* An approval as one line of a list: what it is, who asked, how old, how far. Leads to its page. */

import type { JSX } from "preact";
import { shortSha } from "../../lib/format";
import type { Approval } from "../../lib/protocol";
import { Link } from "../../lib/router";
import { approvals } from "../../lib/store";
import { Age, Chip, Icon, Text } from "../../ui";
import { isOpen, rivalsOf, titleOf } from "./model";
import "./approvals.css";

export function ApprovalRow({ approval, current }: { approval: Approval; current?: boolean }): JSX.Element {
  const rivals = rivalsOf(approval, approvals.value);
  return (
    <Link href={`/approvals/${approval.id}`} class={`approval-row${current ? " current" : ""}`}>
      <Icon name={approval.kind === "spawn" ? "plus" : "approvals"} />
      <span class="approval-row-what">
        <strong><Text text={titleOf(approval)} /></strong>
        <span class="muted">
          {`#${approval.id}`} · asked by <Text text={approval.requested_by ?? "unknown"} /> · <Age sentence at={approval.requested_at} />
        </span>
      </span>
      {rivals.length > 0 && isOpen(approval) ? (
        <Chip tone="needs" title={`Approval ${rivals.map((one) => `#${one.id}`).join(", ")} is about the same agent`}>conflict</Chip>
      ) : null}
      <StageChip approval={approval} />
      {approval.commit_ref ? <code class="approval-sha" title={approval.commit_ref}>{shortSha(approval.commit_ref)}</code> : null}
    </Link>
  );
}

const TONES = { proposal: "needs", approved: "working", building: "working", deployed: "ok", failed: "failed", denied: "muted" } as const;

export function StageChip({ approval }: { approval: Approval }): JSX.Element {
  const stage = approval.stage ?? "proposal";
  const word = stage === "proposal" ? "waits for you" : stage;
  return <Chip tone={TONES[stage]} title={`Stage: ${stage}`}>{word}</Chip>;
}
