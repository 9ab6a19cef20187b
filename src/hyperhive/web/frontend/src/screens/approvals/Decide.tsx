/*
 * The operator's word: approve exactly what is shown, or deny with a reason. Stays at the bottom of the window, out of
 * anything that an agent's text can draw in.
 */

import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { plural, shortSha } from "../../lib/format";
import { useActions } from "../../lib/keys";
import { settings } from "../../lib/settings";
import { Button, ConfirmDialog, Text } from "../../ui";
import { denial, hiddenIn, nameOf } from "../../ui/diff";
import { type Remarks, isArmed, isOpen } from "./model";
import type { Review } from "./review";

const REPLIES = ["Not now.", "Too broad: split it.", "Say why in the commit message."];
/** So long a diff that took another's place is not approved by a mere click, which may have been meant for that one. */
const SWAPPED_MS = 2000;

export function Decide({ review, remarks, approvable }: { review: Review; remarks: Remarks; approvable: boolean }): JSX.Element | null {
  const [denying, setDenying] = useState(false);
  const [armed, setArmed] = useState(0);
  const [confirming, setConfirming] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const { approval, memory, shown } = review;
  const open = approval !== undefined && isOpen(approval);

  const [swapped, setSwapped] = useState(false);
  const lasting = doubtsOf(shown.value?.diff ?? "", remarks);
  const doubts = swapped ? ["It changed a moment ago, under your hand: this is not the diff that you saw.", ...lasting] : lasting;
  const approve = (): void => {
    const lately = performance.now() - review.swappedAt < SWAPPED_MS;
    setSwapped(lately);
    if (lately || lasting.length > 0) setConfirming(true);
    else void review.approve();
  };
  const key = (): void => {
    const at = performance.now();
    if (review.wasRead || approval?.kind === "spawn" || isArmed(armed, at)) approve();
    else setArmed(at);
  };
  const deny = (): void => setDenying(true);
  // Before the next key is read: who presses d and writes on loses no letter.
  useLayoutEffect(() => {
    if (denying) field.current?.focus();
  }, [denying]);
  useActions(
    open
      ? [
          { id: "approval.approve", title: "Approve what is shown", section: "Approval", keys: "a", run: key, when: () => approvable && !review.busy },
          { id: "approval.deny", title: "Deny with a reason", section: "Approval", keys: "d", run: deny },
        ]
      : [],
    [open, approvable, review, armed],
  );
  if (!open) return null;
  const note = denial(memory);
  return (
    <div class="approval-decide" role="group" aria-label="Your decision">
      {denying ? (
        <form
          class="approval-deny"
          onSubmit={(event) => {
            event.preventDefault();
            if (note) void review.deny();
          }}
        >
          <label for="deny-reason">
            Why not? <span class="muted">{memory.comments.length > 0 ? `Your ${plural(memory.comments.length, "comment")} will be in it.` : "Whoever asked is told."}</span>
          </label>
          <textarea
            id="deny-reason"
            ref={field}
            rows={2}
            value={memory.reason}
            onInput={(event) => review.setMemory({ ...memory, reason: event.currentTarget.value })}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && note) void review.deny();
              if (event.key === "Escape") setDenying(false);
            }}
          />
          <SavedReplies reason={memory.reason} onPick={(reason) => review.setMemory({ ...memory, reason })} />
          <span class="approval-do">
            <Button type="submit" kind="danger" busy={review.busy === "deny"} disabled={!note || review.busy !== undefined}>Deny</Button>
            <Button kind="ghost" onClick={() => setDenying(false)}>Back</Button>
          </span>
        </form>
      ) : (
        <span class="approval-do">
          <Button kind="primary" icon="check" keys="a" busy={review.busy === "approve"} disabled={!approvable || review.busy !== undefined} onClick={approve}>
            {approval.commit_ref ? `Approve ${shortSha(approval.commit_ref)}` : "Approve"}
          </Button>
          <Button icon="x" keys="d" onClick={deny}>{memory.comments.length > 0 ? `Deny with ${plural(memory.comments.length, "comment")}…` : "Deny…"}</Button>
          <span class="approval-hint" role="status">
            {armed > 0 && !review.wasRead ? "You have not seen all of it. Press a again to approve all the same." : ""}
          </span>
        </span>
      )}
      {confirming ? (
        <ConfirmDialog
          title="Approve this all the same?"
          confirm="Approve"
          danger
          onClose={() => setConfirming(false)}
          onConfirm={() => {
            setConfirming(false);
            void review.approve();
          }}
        >
          <ul class="approval-doubts">{doubts.map((one) => <li key={one}><Text text={one} /></li>)}</ul>
        </ConfirmDialog>
      ) : null}
    </div>
  );
}

/** What must be confirmed once more: text that hides something, or a change that would fail. */
function doubtsOf(diff: string, remarks: Remarks): readonly string[] {
  const hidden = [...hiddenIn(diff)].map(([char, count]) => `The diff has ${nameOf(char)} (${count}×): what it does may not be what it looks like.`);
  const told = hidden.length > 0 ? [] : remarks.hidden;
  return [...hidden, ...told, ...remarks.fails.map((one) => `It would fail: ${one}`)].slice(0, 12);
}

function SavedReplies({ reason, onPick }: { reason: string; onPick: (reason: string) => void }): JSX.Element {
  const own = settings.savedReplies.value;
  const all = [...own, ...REPLIES.filter((one) => !own.includes(one))];
  const worthKeeping = reason.trim().length > 0 && !all.includes(reason.trim());
  return (
    <span class="approval-replies" role="group" aria-label="Saved replies">
      {all.slice(0, 6).map((one) => <button type="button" key={one} onClick={() => onPick(one)}><Text text={one} /></button>)}
      {worthKeeping ? <button type="button" class="keep" onClick={() => (settings.savedReplies.value = [reason.trim(), ...own].slice(0, 6))}>Keep this reply</button> : null}
    </span>
  );
}
