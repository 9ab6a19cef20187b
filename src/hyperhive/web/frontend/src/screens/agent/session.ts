// What is loaded of one agent, while its page is open and a while longer: its facts, the window of its events, and where
// the reader is in it. The rows themselves are `src/rows`; how they look is `Terminal`.
//
// New events are drawn at most 100 at a frame. While the reader is elsewhere than at the end (scrolled up, paused, at a
// permalink) they are kept and counted, never drawn into what is being read once the window is full.
import { signal, type Signal } from "@preact/signals";
import { asApiError, get, request, type ApiError } from "../../lib/api";
import { openFeed } from "../../lib/feed";
import type { Frame as WireFrame } from "../../lib/protocol";
import { now } from "../../lib/time";
import { factsOf, nextFacts, NO_FACTS, RowModel, type Facts, type Frame, type Row } from "../../rows";

export const PAGE = 200;
export const ROWS_MAX = 2000;
const ROWS_KEPT = 1500;
const BATCH = 100;
const BACKLOG_MAX = 1500;
const BACKLOG_KEPT = 400;
/** The most that the history gives at once. */
const HISTORY_MAX = 2000;

interface Snapshot {
  seq: number;
  facts?: Record<string, unknown>;
  events: Frame[];
}

export interface AgentFacts extends Facts {
  /** The login that is under way, or how the last one ended. */
  session?: { url?: string; output: string; finished: boolean; exit_note?: string } | null;
}

export async function history(name: string, ask: { before?: number; limit?: number; kind?: string; q?: string }, signal?: AbortSignal): Promise<Frame[]> {
  const page = await request({ cmd: "events", name, limit: PAGE, ...ask }, signal ? { signal } : {});
  return page.events as unknown as Frame[];
}

export class AgentSession {
  readonly model = new RowModel();
  readonly facts: Signal<AgentFacts> = signal<AgentFacts>(NO_FACTS);
  /** Counts up whenever the rows are others. */
  readonly version = signal(0);
  readonly loaded = signal(false);
  readonly error = signal<ApiError | undefined>(undefined);
  readonly busy = signal<"" | "older" | "newer" | "gap" | "jump">("");
  readonly hasOlder = signal(true);
  /** There are newer events than the window's last, and they are not drawn as they come. */
  readonly detached = signal(false);
  readonly paused = signal(false);
  /** Events that came and are not seen yet. */
  readonly fresh = signal(0);
  readonly current = signal<string | undefined>(undefined);
  /** Rows and turns that the reader opened or closed, by key. */
  readonly opened = signal<ReadonlyMap<string, boolean>>(new Map());
  /** Where the reader was when the page was left; undefined: at the end. */
  scroll: number | undefined;

  /** The reader is at the end, and sees what comes. */
  following = true;
  /** The row that an address named: kept in sight until what loads late has its place (`until`, in the page's own ms). */
  pin: { key: string; block: "center" | "start"; until: number } | undefined;
  private backlog: Frame[] = [];
  private held: Frame[] = [];
  private drawing = false;
  private leave: (() => void) | undefined;

  constructor(readonly name: string) {}

  /** Follow the agent's stream until `close`. */
  open(): void {
    this.leave ??= openFeed<Snapshot>(this.name, {
      load: (stop) => this.load(stop),
      reset: (snapshot) => this.reset(snapshot),
      apply: (frames) => this.hear(frames as Frame[]),
      failed: (error) => {
        this.error.value = error;
        if (error.code === "refused") this.close(); // it is gone; where it is restored, its page opens anew
        if (!this.loaded.peek()) void this.loadAlone();
      },
    });
  }

  close(): void {
    this.leave?.();
    this.leave = undefined;
  }

  private async load(stop: AbortSignal): Promise<Snapshot> {
    const [page, state] = await Promise.all([
      request({ cmd: "events", name: this.name, limit: PAGE }, { signal: stop }) as Promise<unknown> as Promise<{ seq: number; events: Frame[] }>,
      this.state(stop),
    ]);
    return { seq: Math.min(page.seq, (state?.["seq"] as number | undefined) ?? page.seq), events: page.events, ...(state ? { facts: state } : {}) };
  }

  /** The snapshot, or none where the agent does not run: its history can be read all the same. */
  private async state(stop?: AbortSignal): Promise<Record<string, unknown> | undefined> {
    try {
      return await get<Record<string, unknown>>(`/agents/${encodeURIComponent(this.name)}/api/state`, stop);
    } catch (error) {
      if (asApiError(error).status === 0) throw error;
      return undefined;
    }
  }

  private async loadAlone(): Promise<void> {
    try {
      const events = await history(this.name, {});
      if (!this.loaded.peek()) this.take(events);
    } catch (error) {
      this.error.value = asApiError(error);
    }
  }

  private take(events: Frame[]): void {
    this.model.add(events);
    this.hasOlder.value = events.length > 0 && (this.model.firstEid ?? 1) > 1;
    this.loaded.value = true;
    this.draw();
  }

  private reset(snapshot: Snapshot): void {
    this.error.value = undefined;
    if (snapshot.facts) this.takeFacts(snapshot.facts);
    for (const frame of snapshot.events) if (frame["type"] === "rate_limit_event" || frame["type"] === "result") this.learn(frame);
    this.model.newEpoch();
    if (this.detached.peek()) this.fresh.value += this.unseen(snapshot.events);
    else this.take(snapshot.events); // what is missing between the window and this page becomes a gap row
    this.loaded.value = true;
  }

  private takeFacts(given: Record<string, unknown>): void {
    this.facts.value = { ...factsOf(given, this.facts.peek()), session: given["session"] as AgentFacts["session"] };
  }

  /** Ask for the agent's state anew: the login's progress is in no event. */
  async refreshFacts(): Promise<void> {
    const given = await this.state().catch(() => undefined);
    if (given) this.takeFacts(given);
  }

  private learn(frame: Frame): void {
    const before = this.facts.peek();
    const after = nextFacts(before, frame);
    if (after !== before) this.facts.value = { ...before, ...after, ...(after.reason === undefined ? { reason: undefined } : {}) } as AgentFacts;
  }

  private hear(frames: readonly (Frame | WireFrame)[]): void {
    const away = this.paused.peek() || this.detached.peek() || (!this.following && this.model.size >= ROWS_MAX);
    for (const frame of frames as readonly Frame[]) {
      if (frame.kind === "ended") continue; // of the stream, not of the agent's doing
      this.learn(frame);
      if (away) {
        this.held.push(frame);
        if (this.held.length > HISTORY_MAX) this.held.splice(0, this.held.length - HISTORY_MAX);
      } else this.backlog.push(frame);
    }
    if (!this.following || this.paused.peek()) this.fresh.value += this.unseen(frames as readonly Frame[]);
    this.drawSoon();
  }

  private unseen(frames: readonly Frame[]): number {
    const last = this.model.lastEid ?? 0;
    return frames.filter((frame) => (frame.eid ?? Infinity) > last && frame.kind !== "token_usage_changed" && frame.kind !== "turn_state_changed").length;
  }

  private drawSoon(): void {
    if (this.drawing || this.backlog.length === 0) return;
    this.drawing = true;
    const step = (): void => {
      if (this.backlog.length > BACKLOG_MAX) this.backlog = this.backlog.slice(-BACKLOG_KEPT); // the rest is a gap row, to be loaded
      this.model.add(this.backlog.splice(0, BATCH), now.peek());
      if (this.following) this.trim("newest");
      this.draw();
      this.drawing = false;
      this.drawSoon();
    };
    if (document.visibilityState === "visible") requestAnimationFrame(step);
    else setTimeout(step, 50);
  }

  private trim(side: "newest" | "oldest"): void {
    if (!this.model.trim(ROWS_MAX, ROWS_KEPT, side)) return;
    if (side === "newest") this.hasOlder.value = true;
    else this.detached.value = true;
  }

  private draw(): void {
    this.version.value++;
  }

  // --- where the reader is ------------------------------------------------------------------------------------------

  /** The reader is at the end, or has left it. */
  follow(on: boolean): void {
    if (on === this.following || (on && this.pinned)) return;
    this.following = on;
    if (on && !this.paused.peek() && !this.detached.peek()) {
      this.fresh.value = 0;
      this.release();
    }
  }

  get pinned(): boolean {
    return this.pin !== undefined && performance.now() < this.pin.until;
  }

  pause(on: boolean): void {
    this.paused.value = on;
    if (!on && !this.detached.peek()) {
      if (this.following) this.fresh.value = 0;
      this.release();
    }
  }

  private release(): void {
    this.backlog.push(...this.held);
    this.held = [];
    this.drawSoon();
  }

  /** To the newest events. */
  async toEnd(): Promise<void> {
    this.pin = undefined;
    this.following = true;
    this.paused.value = false;
    this.fresh.value = 0;
    if (this.detached.peek()) {
      await this.work("jump", async () => {
        const page = await history(this.name, {});
        this.detached.value = false;
        this.model.clear();
        this.take(page);
      });
    }
    this.release();
    this.draw();
  }

  async loadOlder(): Promise<void> {
    await this.work("older", async () => {
      const before = this.model.firstEid;
      const page = await history(this.name, before === undefined ? {} : { before });
      this.hasOlder.value = page.length > 0 && (page[0]?.eid ?? 1) > 1;
      this.model.add(page);
      this.trim("oldest");
      this.draw();
    });
  }

  async loadNewer(): Promise<void> {
    await this.work("newer", async () => {
      const after = this.model.lastEid ?? 0;
      const page = (await history(this.name, { before: after + PAGE + 1 })).filter((frame) => (frame.eid ?? 0) > after);
      if (page.length < PAGE) {
        this.detached.value = false;
        this.fresh.value = 0;
      }
      this.model.add(page);
      this.trim("newest");
      if (!this.detached.peek()) this.release();
      this.draw();
    });
  }

  async loadGap(after: number, to: number): Promise<void> {
    await this.work("gap", async () => {
      const missing = to - after - 1;
      const page = await history(this.name, { before: to, limit: Math.min(missing, HISTORY_MAX) });
      const found = this.model.add(page.filter((frame) => (frame.eid ?? 0) > after));
      if (found === 0) this.model.giveUp(to);
      this.draw();
    });
  }

  /** Show this event with what is round it. Returns its row's key, if it is still kept. */
  async jump(eid: number): Promise<string | undefined> {
    this.following = false;
    let key = this.keyOf(eid);
    if (key === undefined) {
      await this.work("jump", async () => {
        const page = await history(this.name, { before: eid + PAGE / 2 });
        const newest = this.model.lastEid ?? 0;
        this.model.clear();
        this.take(page);
        this.detached.value = newest > (this.model.lastEid ?? 0);
      });
      key = this.keyOf(eid);
    }
    this.current.value = key;
    return key;
  }

  /** The first event of a turn, looked for among the beginnings of turns. */
  async findTurn(turn: number): Promise<number | undefined> {
    let before: number | undefined;
    for (let page = 0; page < 10; page++) {
      const starts = await history(this.name, { kind: "turn_start", limit: 500, ...(before === undefined ? {} : { before }) });
      const found = starts.findLast((frame) => frame.turn === turn);
      if (found) return found.eid;
      before = starts[0]?.eid;
      if (before === undefined) return undefined;
    }
    return undefined;
  }

  keyOf(eid: number): string | undefined {
    const within = (row: Row): boolean => row.raw.some((frame) => frame.eid === eid) || (row.type === "tool" && row.children.some(within));
    const find = (rows: readonly Row[]): string | undefined => {
      const row = rows.find(within);
      return row && ((row.type === "tool" && find(row.children)) || row.key);
    };
    for (const group of this.model.groups()) {
      const key = find(group.rows);
      if (key) return key;
    }
    return undefined;
  }

  setOpen(key: string, open: boolean): void {
    this.opened.value = new Map(this.opened.peek()).set(key, open);
  }

  private async work(what: "older" | "newer" | "gap" | "jump", run: () => Promise<void>): Promise<void> {
    if (this.busy.peek()) return;
    this.busy.value = what;
    try {
      await run();
      this.error.value = undefined;
    } catch (error) {
      this.error.value = asApiError(error);
    } finally {
      this.busy.value = "";
    }
  }
}

const KEEP = 4;
const sessions = new Map<string, AgentSession>();

/** The session of this agent; the last few stay as they were left, so that going back is at once. */
export function sessionOf(name: string): AgentSession {
  const found = sessions.get(name) ?? new AgentSession(name);
  sessions.delete(name);
  sessions.set(name, found);
  for (const [other, session] of sessions) {
    if (sessions.size <= KEEP) break;
    session.close();
    sessions.delete(other);
  }
  return found;
}
