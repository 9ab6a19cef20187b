// The protocol's types under their names on the wire. Generated from openapi.json; nothing here is written by hand but
// the few shapes that no schema describes.
import type { components } from "../api";

export type Schemas = components["schemas"];

/** What the operator may ask (POST /api/request). `req` is the transport's own. */
type WithoutReq<R> = R extends unknown ? Omit<R, "req"> : never;
export type Request = WithoutReq<Schemas["Request"]>;
export type Answers = Schemas["Answers"];
export type AnswerTo<R> = R extends { cmd: infer C extends keyof Answers } ? Answers[C] : never;

export type Approval = Schemas["Approval"];
export type AuditEntry = Schemas["AuditEntry"];
export type ContainerView = Schemas["ContainerView"];
export type DeadLetter = Schemas["DeadLetter"];
export type FileRef = Schemas["FileRef"];
export type LooseEnd = Schemas["ApprovalEnd"] | Schemas["QuestionEnd"] | Schemas["ReminderEnd"];
export type OperatorInboxRow = Schemas["OperatorInboxRow"];
export type Question = Schemas["Question"];
export type Reminder = Schemas["Reminder"];
export type TokenUsage = Schemas["TokenUsage"];
export type ToolCall = Schemas["ToolCall"];
export type TurnRow = Schemas["TurnRow"];
export type LoginSession = Schemas["LoginSession"];

export type ContainerState = ContainerView["state"];
export type TurnState = ContainerView["turn_state"];
export type Transient = NonNullable<ContainerView["transient"]>;
export type MessageStateName = Schemas["MessageState"]["state"];

export type DashboardEvent = Schemas["DashboardEvent"];
/** One stream-json line of the agent's CLI: its own fields beside the tag. */
export interface CliLine {
  kind: "stream";
  seq?: number;
  eid?: number;
  turn?: number;
  type?: string;
  [field: string]: unknown;
}
export type LiveEvent = Schemas["LiveEvent"] | CliLine;

/** Any frame of any stream, before anybody looked at its kind. */
export interface Frame {
  kind: string;
  seq?: number;
  stream?: string;
  [field: string]: unknown;
}

/** GET /api/state, and the request `state`. */
export type Snapshot = Schemas["HiveSnapshot"];
export type HiveFacts = Schemas["HiveSummary"];
export type Tombstone = Schemas["Tombstone"];
export type MetaInput = Schemas["MetaInput"];
