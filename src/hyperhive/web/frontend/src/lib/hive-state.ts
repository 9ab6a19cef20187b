// What the hive's frames do to what we know of it. Pure: a snapshot and frames in, a new state out; what did not change
// stays the same object, so that only rows that changed are drawn again.
import type { Approval, ContainerView, DashboardEvent, Frame, MetaInput, OperatorInboxRow, Question, Reminder, Schemas, Snapshot, Tombstone, Transient } from "./protocol";

export const MAIL_MAX = 2000;
const RESOLVED_MAX = 200;

/** A message as the flow shows it: what was sent, and how far it got. */
export interface MailRow {
  id: number;
  from: string;
  to: string;
  body: string;
  at: number;
  state: Schemas["MessageState"]["state"];
  cut?: boolean;
  turn?: number;
  note?: string;
  file_refs: Schemas["FileRef"][];
}

export interface Resolved {
  answer: string;
  answerer: string;
  /** By what way the operator did it. */
  channel?: string;
  at: number;
  question?: Question;
}

export interface HiveState extends Snapshot {
  /** The last word on every approval heard of in this visit, by id. */
  approvalChanges: ReadonlyMap<number, Approval>;
  resolvedQuestions: ReadonlyMap<number, Resolved>;
  /** Messages seen live, oldest first, capped. */
  mail: readonly MailRow[];
  /** What has to be fetched anew, because its frame says only that it changed (or, of `hive`, that its counts did). */
  stale: ReadonlySet<"tombstones" | "meta_inputs" | "reminders" | "hive">;
}

/**
 * The state that a snapshot gives; how approvals and questions ended is kept. What was on its way is not: how it went on in
 * between is not known, and a message that is "queued" for ever, or a deploy that never ends, is worse than none. What is on
 * its way still stands in the snapshot.
 */
export function fromSnapshot(snapshot: Snapshot, before?: HiveState): HiveState {
  return {
    ...snapshot,
    approvalChanges: new Map([...(before?.approvalChanges ?? [])].filter(([, approval]) => isOver(approval))),
    resolvedQuestions: before?.resolvedQuestions ?? new Map(),
    mail: [],
    stale: new Set(),
  };
}

const isOver = (approval: Approval): boolean => approval.status === "denied" || approval.status === "failed" || approval.stage === "deployed";

/** Apply frames in order. `at`: now, in unix seconds. */
export function applyFrames(state: HiveState, frames: readonly Frame[], at: number): HiveState {
  return frames.reduce((before, frame) => applyFrame(before, frame as unknown as DashboardEvent, at), state);
}

function applyFrame(state: HiveState, event: DashboardEvent, at: number): HiveState {
  const seq = event.seq ?? state.seq;
  switch (event.kind) {
    case "container_state_changed":
      return { ...state, seq, containers: put(state.containers, event.container) };
    case "container_removed":
      return { ...state, seq, containers: state.containers.filter((each) => each.name !== event.name) };
    case "transient_set":
      return withTransient({ ...state, seq }, event.agent, event.what);
    case "transient_cleared":
      return withTransient({ ...state, seq }, event.agent, undefined);
    case "approval_added":
    case "approval_changed":
      return withApproval({ ...state, seq }, event.approval);
    case "approval_resolved":
      return withApproval({ ...state, seq }, event.approval);
    case "question_added": {
      if (event.target !== "operator") return { ...state, seq };
      const { kind: _, seq: __, ...question } = event;
      return { ...state, seq, questions: [...state.questions.filter((each) => each.id !== question.id), question] };
    }
    case "question_resolved": {
      const asked = state.questions.find((each) => each.id === event.id);
      const resolved = new Map(state.resolvedQuestions);
      resolved.set(event.id, { answer: event.answer, answerer: event.answerer, at, ...(event.channel && { channel: event.channel }), ...(asked && { question: asked }) });
      if (resolved.size > RESOLVED_MAX) resolved.delete(resolved.keys().next().value!);
      return { ...state, seq, questions: state.questions.filter((each) => each.id !== event.id), resolvedQuestions: resolved };
    }
    case "sent":
    case "delivered":
      return withMail({ ...state, seq }, event);
    case "message_state":
      return {
        ...state,
        seq,
        mail: state.mail.map((row) => (row.id === event.id ? { ...row, state: event.state, ...pick(event) } : row)),
        inbox: event.state === "acked" ? state.inbox.filter((row) => row.id !== event.id) : state.inbox,
        stale: counted(state, event) ? new Set([...state.stale, "hive"]) : state.stale,
      };
    case "tombstones_changed":
      return { ...state, seq, stale: new Set([...state.stale, "tombstones"]) };
    case "meta_inputs_changed":
      return { ...state, seq, stale: new Set([...state.stale, "meta_inputs"]) };
    case "reminders_changed":
      return { ...state, seq, stale: new Set([...state.stale, "reminders"]) };
    default:
      return { ...state, seq }; // of a kind that this version does not know
  }
}

/** Whether the hive's counts of held and dead messages are others now. */
function counted(state: HiveState, event: Schemas["MessageState"]): boolean {
  const stuck = (word: string | undefined): boolean => word === "held" || word === "dead";
  return stuck(event.state) || stuck(state.mail.findLast((row) => row.id === event.id)?.state);
}

const pick = (event: Schemas["MessageState"]): { turn?: number; note?: string } => ({
  ...(event.turn !== undefined && { turn: event.turn }),
  ...(event.note !== undefined && { note: event.note }),
});

function put(rows: readonly ContainerView[], row: ContainerView): ContainerView[] {
  const at = rows.findIndex((each) => each.name === row.name);
  return at < 0 ? [...rows, row] : rows.with(at, row);
}

function withTransient(state: HiveState, agent: string, what: Transient | undefined): HiveState {
  const { [agent]: _, ...rest } = state.transients;
  return { ...state, transients: what === undefined ? rest : { ...rest, [agent]: what } };
}

/** Approvals stay listed until they are final: a building one is still the operator's business. */
function withApproval(state: HiveState, approval: Approval): HiveState {
  const changes = new Map(state.approvalChanges);
  changes.set(approval.id, approval);
  if (changes.size > RESOLVED_MAX) changes.delete(changes.keys().next().value!);
  const open = approval.status === "pending";
  const known = state.approvals.some((each) => each.id === approval.id);
  const approvals = open
    ? known
      ? state.approvals.map((each) => (each.id === approval.id ? approval : each))
      : [...state.approvals, approval]
    : state.approvals.filter((each) => each.id !== approval.id);
  return { ...state, approvals, approvalChanges: changes };
}

function withMail(state: HiveState, event: Schemas["Sent"] | Schemas["Delivered"]): HiveState {
  const known = state.mail.findIndex((row) => row.id === event.id);
  const reached = event.kind === "delivered" ? "in_flight" : "pending";
  const row: MailRow = { id: event.id, from: event.from, to: event.to, body: event.body, at: event.at, file_refs: event.file_refs, state: reached, ...(event.cut && { cut: true }) };
  if (known >= 0) {
    if (event.kind === "sent") return state;
    return { ...state, mail: state.mail.with(known, { ...state.mail[known]!, state: reached }) };
  }
  const mail = [...state.mail, row].slice(-MAIL_MAX);
  if (event.kind !== "sent" || event.to !== "operator") return { ...state, mail };
  const { id, from, body, at, file_refs } = event;
  const arrived: OperatorInboxRow = { id, from, body, at, ...(file_refs.length > 0 && { file_refs }) };
  return { ...state, mail, inbox: [arrived, ...state.inbox.filter((each) => each.id !== id)] };
}

/** What waits for the operator, most pressing first. */
export type NeedItem =
  | { kind: "question"; key: string; agent: string; at: number; question: Question }
  | { kind: "approval"; key: string; agent: string; at: number; approval: Approval }
  | { kind: "login"; key: string; agent: string; at: number }
  | { kind: "failed"; key: string; agent: string; at: number };

/** Everything that waits for the operator: questions by what expires first, approvals by age, logins, failures. */
export function needsOf(state: Pick<HiveState, "questions" | "approvals" | "containers">, at: number): NeedItem[] {
  const questions = state.questions
    .filter((each) => each.target === "operator" && each.answered_at === undefined && (each.expires_at ?? Infinity) > at)
    .sort((a, b) => (a.expires_at ?? Infinity) - (b.expires_at ?? Infinity) || a.asked_at - b.asked_at);
  const approvals = state.approvals.filter((each) => each.status === "pending").sort((a, b) => a.requested_at - b.requested_at);
  return [
    ...questions.map((question): NeedItem => ({ kind: "question", key: `question:${question.id}`, agent: question.asker, at: question.asked_at, question })),
    ...approvals.map((approval): NeedItem => ({ kind: "approval", key: `approval:${approval.id}`, agent: approval.agent, at: approval.requested_at, approval })),
    ...state.containers.filter((each) => each.needs_login && !each.held_by_operator).map((each): NeedItem => ({ kind: "login", key: `login:${each.name}`, agent: each.name, at: each.turn_state_since })),
    ...state.containers.filter((each) => each.state === "failed").map((each): NeedItem => ({ kind: "failed", key: `failed:${each.name}`, agent: each.name, at: each.turn_state_since })),
  ];
}

/** `fresh`, or `before` where they say the same: whoever shows them is not drawn again for each frame of the hive. */
export function settled(before: NeedItem[], fresh: NeedItem[]): NeedItem[] {
  const what = (item: NeedItem): unknown => (item.kind === "question" ? item.question : item.kind === "approval" ? item.approval : undefined);
  const same = before.length === fresh.length && fresh.every((item, i) => item.key === before[i]!.key && item.at === before[i]!.at && what(item) === what(before[i]!));
  return same ? before : fresh;
}

export type { Reminder, Tombstone, MetaInput };
