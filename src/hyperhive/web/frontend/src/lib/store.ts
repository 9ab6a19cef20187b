// The hive's state as signals, always current: one feed of the `hive` stream. Changes to state are `hive-state.ts`; here
// are the signals, the refetching of what frames only name, and the operator's actions with their honest optimism.
import { batch, computed, signal, type ReadonlySignal } from "@preact/signals";
import { asApiError, get, request, requestAll, type ApiError } from "./api";
import { openFeed } from "./feed";
import { applyFrames, fromSnapshot, needsOf, settled, type HiveState, type MailRow, type NeedItem, type Resolved } from "./hive-state";
import type { Approval, ContainerView, DashboardEvent, HiveFacts, MetaInput, OperatorInboxRow, Question, Reminder, Request, Snapshot, Tombstone, Transient } from "./protocol";
import { now } from "./time";

export type { HiveState, MailRow, NeedItem, Resolved };

const state = signal<HiveState | undefined>(undefined);
const failure = signal<ApiError | undefined>(undefined);
const pending = signal<ReadonlyMap<string, Transient>>(new Map());
const errors = signal<ReadonlyMap<string, ApiError>>(new Map());
const rounds = signal(0);
const listeners = new Set<(frame: DashboardEvent) => void>();

/** Undefined until the first snapshot. */
export const hive: ReadonlySignal<HiveState | undefined> = state;
/** Counts snapshots: frames before the last one may have been missed, so what was fetched beside them is fetched anew. */
export const snapshots: ReadonlySignal<number> = rounds;
/** Counts those after the first: whoever fetched something before the last one fetches it anew. */
export const refetches: ReadonlySignal<number> = computed(() => Math.max(0, rounds.value - 1));
/** Why there is no snapshot, or no new one. */
export const hiveError: ReadonlySignal<ApiError | undefined> = failure;
export const facts: ReadonlySignal<HiveFacts | undefined> = computed(() => state.value?.hive);
export const containers: ReadonlySignal<ContainerView[]> = computed(() => state.value?.containers ?? []);
export const approvals: ReadonlySignal<Approval[]> = computed(() => state.value?.approvals ?? []);
export const questions: ReadonlySignal<Question[]> = computed(() => state.value?.questions ?? []);
export const inbox: ReadonlySignal<OperatorInboxRow[]> = computed(() => state.value?.inbox ?? []);
export const tombstones: ReadonlySignal<Tombstone[]> = computed(() => state.value?.tombstones ?? []);
export const metaInputs: ReadonlySignal<MetaInput[]> = computed(() => state.value?.meta_inputs ?? []);
export const reminders: ReadonlySignal<Reminder[]> = computed(() => state.value?.reminders ?? []);
export const mail: ReadonlySignal<readonly MailRow[]> = computed(() => state.value?.mail ?? []);
export const approvalChanges: ReadonlySignal<ReadonlyMap<number, Approval>> = computed(() => state.value?.approvalChanges ?? new Map());
export const resolvedQuestions: ReadonlySignal<ReadonlyMap<number, Resolved>> = computed(() => state.value?.resolvedQuestions ?? new Map());
/** What is being done to which agent: the hive's word, and what was clicked a moment ago. */
const told = computed(() => state.value?.transients); // the same object until one of them changes: a frame draws no row but its own
export const transients: ReadonlySignal<ReadonlyMap<string, Transient>> = computed(() => new Map([...pending.value, ...Object.entries(told.value ?? {})]));
/** The last failure of an action on an agent, until the next one or until it is put away. */
export const rowErrors: ReadonlySignal<ReadonlyMap<string, ApiError>> = errors;
const fiveSeconds = computed(() => Math.floor(now.value / 5) * 5);
let needed: NeedItem[] = [];
export const needsYou: ReadonlySignal<NeedItem[]> = computed(() => {
  const known = state.value;
  return (needed = settled(needed, known ? needsOf(known, fiveSeconds.value) : []));
});
export const agentNames: ReadonlySignal<string[]> = computed(() => containers.value.map((each) => each.name).sort());

const byName = new Map<string, ReadonlySignal<ContainerView | undefined>>();
/** One agent's row; changes only when that row does. */
export function container(name: string): ReadonlySignal<ContainerView | undefined> {
  let found = byName.get(name);
  if (!found) {
    found = computed(() => containers.value.find((each) => each.name === name));
    byName.set(name, found);
  }
  return found;
}

/** Hear every frame of the hive, after it was applied. Replayed ones too: what must happen once keeps its own keys. */
export function onFrame(handler: (frame: DashboardEvent) => void): () => void {
  listeners.add(handler);
  return () => listeners.delete(handler);
}

let close: (() => void) | undefined;

/** Begin to follow the hive; once per sign-in. */
export function startStore(): () => void {
  close?.();
  close = openFeed<Snapshot>("hive", {
    load: (stop) => get<Snapshot>("/api/state", stop),
    reset(snapshot) {
      failure.value = undefined;
      state.value = fromSnapshot(snapshot, state.peek());
      rounds.value++;
    },
    apply(frames) {
      const before = state.peek();
      if (before === undefined) return;
      const after = applyFrames(before, frames, now.peek());
      state.value = after;
      for (const frame of frames) {
        settle(frame as unknown as DashboardEvent);
        listeners.forEach((listener) => listener(frame as unknown as DashboardEvent));
      }
      if (after.stale.size > 0) void refetch();
    },
    failed: (error) => (failure.value = error),
  });
  return () => {
    close?.();
    close = undefined;
    state.value = undefined;
  };
}

const GATHER_MS = 1500;
const RETRY_MS = 10_000;
let refetching = false;
/** Fetch what frames only named, once for a burst of them. */
async function refetch(): Promise<void> {
  if (refetching) return;
  refetching = true;
  try {
    while ((state.peek()?.stale.size ?? 0) > 0) {
      await new Promise((done) => setTimeout(done, GATHER_MS));
      const before = state.peek();
      if (before === undefined) return;
      state.value = { ...before, stale: new Set() };
      try {
        const { tombstones, meta_inputs, reminders, hive } = await get<Snapshot>("/api/state");
        if (state.peek() !== undefined) state.value = { ...state.peek()!, tombstones, meta_inputs, reminders, hive };
      } catch {
        // Still to be fetched: with the next round, or by the snapshot after the line was down.
        if (state.peek() !== undefined) state.value = { ...state.peek()!, stale: new Set([...state.peek()!.stale, ...before.stale]) };
        await new Promise((done) => setTimeout(done, RETRY_MS));
      }
    }
  } finally {
    refetching = false;
  }
}

/** Its counts are others by something that no frame tells of. */
export function recount(): void {
  const known = state.peek();
  if (known === undefined) return;
  state.value = { ...known, stale: new Set([...known.stale, "hive" as const]) };
  void refetch();
}

/** The hive's own word about an agent ends what we only supposed. */
function settle(event: DashboardEvent): void {
  if (event.kind === "transient_set" || event.kind === "transient_cleared") supposeNothing(event.agent);
}

function supposeNothing(agent: string): void {
  if (!pending.peek().has(agent)) return;
  const left = new Map(pending.peek());
  left.delete(agent);
  pending.value = left;
}

/** So many answers are waited for at a time: each may take as long as a turn, and a browser has six connections. */
const HEARD_MAX = 3;
const heard: AbortController[] = [];

/**
 * Do something to an agent: its row says so at once; a failure takes that back and is explained in the row. Where much is
 * under way, the oldest answers are waited for no more: the hive goes on with it, and its frames tell of it.
 */
export async function act(agent: string, asked: Request, what: Transient): Promise<boolean> {
  forgive(agent);
  pending.value = new Map(pending.peek()).set(agent, what);
  const stop = new AbortController();
  if (heard.push(stop) > HEARD_MAX) heard.shift()!.abort();
  try {
    await request(asked, { signal: stop.signal });
    return true;
  } catch (error) {
    if (stop.signal.aborted) return true;
    errors.value = new Map(errors.peek()).set(agent, asApiError(error));
    return false;
  } finally {
    supposeNothing(agent);
    if (heard.includes(stop)) heard.splice(heard.indexOf(stop), 1);
  }
}

/** The same to many agents, at one go; returns how many of them refused. */
export async function actOnAll(agents: readonly string[], asked: (agent: string) => Request, what: Transient): Promise<number> {
  let failed = 0;
  batch(() => agents.forEach(forgive));
  pending.value = new Map([...pending.peek(), ...agents.map((agent) => [agent, what] as const)]);
  await requestAll(agents.map(asked), (at, failure) => {
    supposeNothing(agents[at]!);
    if (failure === undefined) return;
    failed++;
    errors.value = new Map(errors.peek()).set(agents[at]!, failure);
  });
  return failed;
}

/** Put an agent's last failure away. */
export function forgive(agent: string): void {
  if (!errors.peek().has(agent)) return;
  const left = new Map(errors.peek());
  left.delete(agent);
  errors.value = left;
}
