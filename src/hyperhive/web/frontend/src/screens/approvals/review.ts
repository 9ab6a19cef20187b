/*
 * One approval under review: what is shown, what it was when the operator looked last, and the word they give.
 *
 * What is approved is always what this hook handed out: the sha and the hash of the very reply that is on the screen.
 * A refusal that it moved fetches it anew, keeps the old diff to compare with, and approves nothing.
 */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, asApiError, request } from "../../lib/api";
import { type Loaded, useLoad } from "../../lib/load";
import type { Approval, AuditEntry, Schemas } from "../../lib/protocol";
import { onFrame, snapshots } from "../../lib/store";
import { type Memory, denial, forget, recall, remember } from "../../ui/diff";
import { isOpen, storyOf } from "./model";

export interface Review {
  readonly shown: Loaded<Schemas["ApprovalDiff"]>;
  /** The approval as it is by the last word about it. */
  readonly approval?: Approval;
  readonly story: readonly AuditEntry[];
  /** The diff that the operator saw, where it was another one. */
  readonly before?: string;
  /** It changed since they looked, whether or not its old text is still known. */
  readonly changed: boolean;
  readonly memory: Memory;
  readonly setMemory: (memory: Memory) => void;
  /** When another diff took the place of the one on the screen (the page's own ms), unless a refusal said so. */
  readonly swappedAt: number;
  readonly busy?: "approve" | "deny";
  readonly refused?: ApiError;
  approve(): Promise<void>;
  deny(): Promise<void>;
  /** All of the diff was on the screen. */
  read(): void;
  readonly wasRead: boolean;
}

export function useReview(id: number): Review {
  const [heard, setHeard] = useState<{ approval: Approval; round: number }>();
  // Frames after it may have been missed: then what is fetched anew knows better.
  const latest = heard?.round === snapshots.value ? heard.approval : undefined;
  const [memory, keep] = useState(() => recall(id));
  const [before, setBefore] = useState<{ text?: string; digest: string }>();
  const [readDigest, setReadDigest] = useState<string>();
  const [busy, setBusy] = useState<"approve" | "deny">();
  const [refused, setRefused] = useState<ApiError>();
  const lastMemory = useRef(memory);
  const swappedAt = useRef(-Infinity);
  const told = useRef(false);
  told.current = refused?.code === "moved";

  const setMemory = useCallback((next: Memory): void => {
    lastMemory.current = next;
    remember(id, next);
    keep(next);
  }, [id]);

  const shown = useLoad(async (signal) => {
    const reply = await request({ cmd: "show", id }, { signal });
    const seen = lastMemory.current.seen;
    const digest = reply.approval.diff_sha256 ?? "";
    if (seen && seen.digest !== digest && isOpen(reply.approval)) setBefore({ digest: seen.digest, ...(seen.text === undefined ? {} : { text: seen.text }) });
    if (seen && seen.digest !== digest && !told.current) swappedAt.current = performance.now();
    if (isOpen(reply.approval)) setMemory({ ...lastMemory.current, seen: { sha: reply.approval.commit_ref, digest, text: reply.diff } });
    return reply;
  }, [id]);
  const agent = shown.value?.approval.agent;
  const story = useLoad(async (signal) => {
    if (agent === undefined) return [];
    const reply = await request({ cmd: "audit", agent, limit: 200 }, { signal });
    return storyOf(reply.entries, id);
  }, [id, agent, latest?.stage]);

  const reload = useRef(shown.reload);
  reload.current = shown.reload;
  useEffect(
    () =>
      onFrame((frame) => {
        if (frame.kind !== "approval_changed" && frame.kind !== "approval_resolved") return;
        if (frame.approval.id === id) setHeard({ approval: frame.approval, round: snapshots.peek() });
        // Another config of the same agent was deployed: this diff is against what was there before.
        if (frame.approval.id === id || frame.approval.agent === agent) reload.current();
      }),
    [id, agent],
  );
  const approval = latest && shown.value ? { ...shown.value.approval, ...latest } : shown.value?.approval;
  const final = approval !== undefined && !isOpen(approval);
  useEffect(() => {
    if (final) forget(id);
  }, [final, id]);

  const decide = async (word: "approve" | "deny", send: () => Promise<unknown>): Promise<void> => {
    if (busy) return;
    setBusy(word);
    setRefused(undefined);
    try {
      await send();
    } catch (error) {
      setRefused(asApiError(error));
    } finally {
      setBusy(undefined);
      shown.reload();
      story.reload();
    }
  };
  const digest = shown.value?.approval.diff_sha256;
  return {
    shown,
    story: story.value ?? [],
    changed: before !== undefined && before.digest !== digest,
    memory,
    setMemory,
    swappedAt: swappedAt.current,
    approve: () =>
      decide("approve", () => {
        const seen = shown.value?.approval;
        return request(
          seen?.kind === "spawn"
            ? { cmd: "approve", id }
            : { cmd: "approve", id, ...(seen?.commit_ref ? { sha: seen.commit_ref } : {}), ...(seen?.diff_sha256 ? { diff_sha256: seen.diff_sha256 } : {}) },
        );
      }),
    deny: () => decide("deny", () => request({ cmd: "deny", id, note: denial(lastMemory.current) })),
    read: () => setReadDigest(digest),
    wasRead: digest !== undefined && readDigest === digest,
    ...(approval ? { approval } : {}),
    ...(before?.text === undefined || before.digest === digest ? {} : { before: before.text }),
    ...(busy ? { busy } : {}),
    ...(refused ? { refused } : {}),
  };
}
