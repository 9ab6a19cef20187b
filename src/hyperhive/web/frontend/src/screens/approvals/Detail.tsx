/* One approval: what it is, its diff, and the operator's word. */

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { plural } from "../../lib/format";
import { useActions } from "../../lib/keys";
import { Link, navigate } from "../../lib/router";
import { approvals } from "../../lib/store";
import { Origin } from "../../mail/Origin";
import { Age, Banner, ErrorBox, Loading, Page, Text } from "../../ui";
import { DiffView, parseDiff } from "../../ui/diff";
import { Decide } from "./Decide";
import { Failure, Meaning, Provenance, Stages } from "./Facts";
import { decisionOf, decisionWords, isOpen, remarksOf, rivalsOf, titleOf } from "./model";
import { type Review, useReview } from "./review";

export function Detail({ id }: { id: number }): JSX.Element {
  const review = useReview(id);
  const { approval, shown } = review;
  const remarks = useMemo(() => remarksOf(shown.value?.warnings ?? []), [shown.value]);
  const diff = shown.value?.diff ?? "";
  const listed = useMemo(() => (diff === "" ? undefined : parseDiff(diff)), [diff]);
  const tooBig = listed !== undefined && listed.files.length === 0 && listed.strays.length > 0;
  useActions([{ id: "approvals.back", title: "Back to the approvals", section: "Approval", keys: "o", run: () => navigate("/approvals") }]);
  if (!approval) {
    return (
      <Page title={`Approval ${id}`}>
        {shown.error ? <ErrorBox error={shown.error} retry={shown.reload} /> : <Loading lines={8} />}
      </Page>
    );
  }
  return (
    <Page title={titleOf(approval)} lead={<><Link href="/approvals">Approvals</Link>{` / #${id}`}</>}>
      <div class="approval">
        <Provenance approval={approval} />
        <Stages approval={approval} story={review.story} />
        {approval.requested_by === "operator" || approval.requested_by === "system" ? null : <Origin of={{ approval: id }} />}
        <News review={review} />
        {approval.status === "failed" && approval.note ? <Failure note={approval.note} /> : null}
        {remarks.blocked.map((one) => <Banner key={one} tone="failed" icon="alert"><Text text={one} /></Banner>)}
        {remarks.fails.map((one) => <Banner key={one} tone="failed" icon="alert">It would fail: <Text text={one} /></Banner>)}
        {remarks.hidden.length > 0 ? (
          <details class="approval-hidden">
            <summary>{plural(remarks.hidden.length, "place")} where the text is not what it looks like</summary>
            <ul>{remarks.hidden.map((one) => <li key={one}><Text text={one} /></li>)}</ul>
          </details>
        ) : null}
        <Meaning remarks={remarks} />
        {shown.error ? <ErrorBox error={shown.error} retry={shown.reload} /> : null}
        {tooBig ? <Banner tone="failed" icon="alert">This change is too large for anybody to judge it, so it cannot be approved. Deny it, and let it be split.</Banner> : null}
        {approval.kind === "spawn" ? (
          <p class="approval-spawn">A new agent has no configuration of its own yet: it starts with the hive’s defaults and what hive.toml says of it.</p>
        ) : (
          <DiffView
            text={diff}
            name={`approval-${id}.diff`}
            {...(isOpen(approval) ? { memory: review.memory, onMemory: review.setMemory, onRead: review.read } : {})}
            {...(review.before === undefined ? {} : { before: review.before })}
          />
        )}
        <Decide review={review} remarks={remarks} approvable={shown.value !== undefined && remarks.blocked.length === 0 && !tooBig} />
      </div>
    </Page>
  );
}

/** What happened while one looked, and what else is about the same agent. */
function News({ review }: { review: Review }): JSX.Element | null {
  const { approval, refused } = review;
  if (!approval) return null;
  const decision = decisionOf(review.story);
  const rivals = rivalsOf(approval, approvals.value);
  return (
    <>
      {refused ? (
        <Banner tone={refused.code === "moved" ? "needs" : "failed"} icon="alert">
          <b>{refused.code === "moved" ? "It moved while you looked: nothing was approved." : "That was not done."}</b>{" "}
          <Text text={refused.detail} /> {refused.code === "moved" ? "Below is what is proposed now." : refused.hint ? <Text text={refused.hint} /> : null}
        </Banner>
      ) : null}
      {review.changed && isOpen(approval) ? (
        <Banner tone="needs" icon="alert">
          <b>Changed since you looked.</b> {review.before === undefined ? "What you saw then is no longer known here: read all of it." : "Files that changed are marked, and no longer count as viewed."}
        </Banner>
      ) : null}
      {!isOpen(approval) && decision ? (
        <Banner tone={approval.status === "denied" ? "muted" : approval.status === "failed" ? "failed" : "ok"} icon={approval.status === "denied" ? "x" : approval.status === "failed" ? "alert" : "check"}>
          <Text text={capital(decisionWords(decision))} />, <Age sentence at={decision.at} />.{approval.status === "failed" ? " It failed; what ran before runs on:" : ""}
          {approval.status === "denied" && approval.note ? <blockquote><Text text={approval.note} /></blockquote> : null}
          {approval.status !== "denied" && approval.status !== "failed" && approval.note ? <> <Text text={approval.note} /></> : null}
        </Banner>
      ) : null}
      {rivals.length > 0 && isOpen(approval) ? (
        <Banner tone="needs" icon="alert">
          {rivals.map((one, index) => <span key={one.id}>{index > 0 ? ", " : ""}<Link href={`/approvals/${one.id}`}>{`Approval #${one.id}`}</Link></span>)}
          {` ${rivals.length === 1 ? "is" : "are"} about the same agent. Whichever is deployed first changes the other’s diff, or makes it stale.`}
        </Banner>
      ) : null}
    </>
  );
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
