import { describe, expect, it } from "vitest";
import { applyFrames, fromSnapshot, MAIL_MAX, needsOf, settled, type HiveState } from "./hive-state";
import type { Approval, ContainerView, Frame, Question, Snapshot } from "./protocol";

const agent = (name: string, more: Partial<ContainerView> = {}): ContainerView => ({
  name, role: "agent", running: true, state: "idle", turn_state: "idle", turn_state_since: 1, unread: 0, model: "haiku", isolation: "bwrap",
  network: "none", account: "default", needs_login: false, needs_update: false, held_by_operator: false, pending_reminders: 0, ...more,
});
const approval = (id: number, more: Partial<Approval> = {}): Approval => ({ id, agent: "alice", kind: "apply_commit", commit_ref: "abc", requested_at: id, status: "pending", ...more });
const question = (id: number, more: Partial<Question> = {}): Question => ({ id, asker: "bob", target: "operator", question: "?", options: [], multi: false, asked_at: id, ...more });

function state(more: Partial<Snapshot> = {}): HiveState {
  return fromSnapshot({
    kind: "state", seq: 10, containers: [agent("alice"), agent("bob")], approvals: [], questions: [], inbox: [], transients: {}, tombstones: [], meta_inputs: [], reminders: [],
    hive: { revision: "1", runtime: "bwrap", started_at: 0, dead: 0, held: 0, forge_behind: [], operator_unread: 0, questions: 0, warnings: [] }, ...more,
  });
}
const apply = (before: HiveState, ...frames: object[]): HiveState => applyFrames(before, frames as Frame[], 100);

describe("applying the hive's frames", () => {
  it("replaces one row and leaves the others the same objects", () => {
    const before = state();
    const after = apply(before, { kind: "container_state_changed", seq: 11, container: agent("alice", { state: "working" }) });
    expect(after.containers.map((each) => each.state)).toEqual(["working", "idle"]);
    expect(after.containers[1]).toBe(before.containers[1]);
    expect(after.seq).toBe(11);
  });

  it("follows an agent from its spawn to its end", () => {
    let now = apply(state(), { kind: "transient_set", seq: 11, agent: "carol", what: "spawning" });
    expect(now.transients).toEqual({ carol: "spawning" });
    now = apply(now, { kind: "container_state_changed", seq: 12, container: agent("carol") }, { kind: "transient_cleared", seq: 13, agent: "carol" });
    expect(now.containers).toHaveLength(3);
    expect(now.transients).toEqual({});
    now = apply(now, { kind: "container_removed", seq: 14, name: "carol" }, { kind: "tombstones_changed", seq: 15 });
    expect(now.containers).toHaveLength(2);
    expect([...now.stale]).toEqual(["tombstones"]);
  });

  it("lists an approval while it waits, and remembers its last word", () => {
    let now = apply(state(), { kind: "approval_added", seq: 11, approval: approval(1), diff: "" });
    expect(now.approvals).toHaveLength(1);
    now = apply(now, { kind: "approval_changed", seq: 12, approval: approval(1, { status: "approved", stage: "building" }) });
    expect(now.approvals).toHaveLength(0);
    expect(now.approvalChanges.get(1)?.stage).toBe("building");
  });

  it("takes an answered question away and says who answered", () => {
    const before = state({ questions: [question(7)] });
    const after = apply(before, { kind: "question_resolved", seq: 11, id: 7, answer: "yes", answerer: "operator", channel: "web" });
    expect(after.questions).toEqual([]);
    expect(after.resolvedQuestions.get(7)).toMatchObject({ answer: "yes", answerer: "operator", channel: "web", at: 100, question: { asker: "bob" } });
  });

  it("does not list questions that agents ask each other", () => {
    const after = apply(state(), { kind: "question_added", seq: 11, ...question(8, { target: "alice" }) });
    expect(after.questions).toEqual([]);
  });

  it("joins sent, delivered and state into one row a message, and caps them", () => {
    const sent = (id: number, to = "alice") => ({ kind: "sent", seq: 10 + id, id, from: "bob", to, body: "hi", at: id, file_refs: [] });
    let now = apply(state(), sent(1), { ...sent(1), kind: "delivered", seq: 12 }, { kind: "message_state", seq: 13, id: 1, state: "acked", turn: 4 });
    expect(now.mail).toEqual([{ id: 1, from: "bob", to: "alice", body: "hi", at: 1, file_refs: [], state: "acked", turn: 4 }]);
    now = apply(now, ...Array.from({ length: MAIL_MAX + 5 }, (_, i) => sent(i + 2)));
    expect(now.mail).toHaveLength(MAIL_MAX);
    expect(now.mail.at(-1)!.id).toBe(MAIL_MAX + 6);
  });

  it("puts mail to the operator into the inbox, and takes it out when it is done elsewhere", () => {
    let now = apply(state(), { kind: "sent", seq: 11, id: 5, from: "bob", to: "operator", body: "done", at: 9, file_refs: [] });
    expect(now.inbox.map((row) => row.id)).toEqual([5]);
    now = apply(now, { kind: "message_state", seq: 12, id: 5, state: "acked" });
    expect(now.inbox).toEqual([]);
  });

  it("forgets with a new snapshot how far messages had come: what happened to them between is not known", () => {
    const before = apply(state(), { kind: "sent", seq: 11, id: 1, from: "operator", to: "alice", body: "hi", at: 1, file_refs: [] });
    expect(before.mail).toHaveLength(1);
    expect(fromSnapshot({ ...before, kind: "state" }, before).mail).toEqual([]);
  });

  it("has the hive's counts fetched anew where a message is given up, or no longer", () => {
    const sent = apply(state(), { kind: "sent", seq: 11, id: 1, from: "bob", to: "alice", body: "hi", at: 1, file_refs: [] }, { kind: "message_state", seq: 12, id: 1, state: "in_flight" });
    expect(sent.stale.size).toBe(0);
    const dead = apply(sent, { kind: "message_state", seq: 13, id: 1, state: "dead" });
    expect([...dead.stale]).toEqual(["hive"]);
    expect([...apply({ ...dead, stale: new Set() }, { kind: "message_state", seq: 14, id: 1, state: "pending" }).stale]).toEqual(["hive"]);
  });

  it("keeps what is done to whom, and what needs the operator, the same objects while a frame tells of something else", () => {
    const before = state({ questions: [question(1)], containers: [agent("alice", { needs_login: true }), agent("bob")], transients: { bob: "stopping" } });
    const after = apply(before, { kind: "container_state_changed", seq: 11, container: agent("bob", { unread: 3 }) });
    expect(after.transients).toBe(before.transients);
    expect(after.containers[0]).toBe(before.containers[0]);
    const needed = needsOf(before, 100);
    expect(settled(needed, needsOf(after, 100))).toBe(needed);
    const more = needsOf(apply(after, { kind: "approval_added", seq: 12, approval: approval(4), diff: "" }), 100);
    expect(settled(needed, more)).toBe(more);
  });

  it("forgets with a new snapshot what was on its way, whose end may have been missed, and keeps how things ended", () => {
    const changed = (id: number, status: "approved" | "denied", stage: "building" | "denied") => ({ kind: "approval_changed", seq: 10 + id, approval: approval(id, { status, stage }) });
    const before = apply(state(), changed(1, "approved", "building"), changed(2, "denied", "denied"));
    expect([...before.approvalChanges.keys()]).toEqual([1, 2]);
    expect([...fromSnapshot(before, before).approvalChanges.keys()]).toEqual([2]);
  });

  it("goes on past an event of a kind that it does not know", () => {
    const after = apply(state(), { kind: "weather_changed", seq: 11, sky: "blue" }, { kind: "container_removed", seq: 12, name: "bob" });
    expect(after.containers).toHaveLength(1);
    expect(after.seq).toBe(12);
  });
});

describe("what needs the operator", () => {
  it("counts questions, approvals, logins and failures, and never an idle agent", () => {
    const now = state({
      questions: [question(1), question(2, { expires_at: 50 }), question(3, { expires_at: 500 })],
      approvals: [approval(9), approval(8, { status: "denied" })],
      containers: [agent("alice", { needs_login: true }), agent("bob"), agent("carol", { state: "failed" })],
    });
    expect(needsOf(now, 100).map((item) => item.key)).toEqual(["question:3", "question:1", "approval:9", "login:alice", "failed:carol"]);
  });

  it("does not nag about the login of an agent that the operator stopped", () => {
    const now = state({ containers: [agent("alice", { needs_login: true, held_by_operator: true })] });
    expect(needsOf(now, 100)).toEqual([]);
  });
});
