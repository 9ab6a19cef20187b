// What is loaded of one agent, while its page is open and a while longer: its facts, the window of its events, and where
// the reader is in it. The rows themselves are `src/rows`; how they look is `Terminal`.
//
// New events are drawn at most 100 at a frame. While the reader is elsewhere than at the end (scrolled up, paused, at a
// permalink) they are kept and counted, never drawn into what is being read once the window is full.
import { signal, type Signal } from "@preact/signals";
import { asApiError, request, type ApiError } from "../../lib/api";
import { openFeed } from "../../lib/feed";
import type { Frame as WireFrame } from "../../lib/protocol";
import { now } from "../../lib/time";
import { history, HISTORY_MAX, PAGE, stateOf } from "./past";
import { factsOf, nextFacts, NO_FACTS, RowModel, type Facts, type Frame, type Row } from "../../rows";

export const ROWS_MAX = 2000;
const ROWS_KEPT = 1500;
const BATCH = 100;
const BACKLOG_MAX = 1500;
const BACKLOG_KEPT = 400;

interface Snapshot {
  seq: number;
  facts?: Record<string, unknown>;
  events: Frame[];
  /** After a restart: the log's own events up to the last one that is loaded, where `events` begin after it. */
  tail?: Frame[];
}

export interface AgentFacts extends Facts {
  /** The login that is under way, or how the last one ended. */
  session?: { url?: string; output: string; finished: boolean; exit_note?: string } | null;
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
      load: (stop, anew) => this.load(stop, anew),
      reset: (snapshot, anew) => this.reset(snapshot, anew),
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

  private async load(stop: AbortSignal, anew: boolean): Promise<Snapshot> {
    const [page, state] = await Promise.all([
      request({ cmd: "events", name: this.name, limit: PAGE }, { signal: stop }) as Promise<unknown> as Promise<{ seq: number; events: Frame[] }>,
      stateOf(this.name, stop),
    ]);
    const last = anew ? this.model.lastEid : undefined;
    const apart = last !== undefined && (page.events[0]?.eid ?? 0) > last;
    const tail = apart ? await history(this.name, { before: last + 1 }, stop) : undefined;
    return { seq: Math.min(page.seq, (state?.["seq"] as number | undefined) ?? page.seq), events: page.events, ...(state ? { facts: state } : {}), ...(tail ? { tail } : {}) };
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

  private reset(snapshot: Snapshot, anew: boolean): void {
    this.error.value = undefined;
    if (anew) this.forget(snapshot);
    if (snapshot.facts) this.takeFacts(snapshot.facts);
    for (const frame of snapshot.events) if (frame["type"] === "rate_limit_event" || frame["type"] === "result") this.learn(frame);
    this.model.newEpoch();
    if (this.detached.peek()) this.fresh.value += this.unseen(snapshot.events);
    else this.take(snapshot.events); // what is missing between the window and this page becomes a gap row
    this.loaded.value = true;
  }

  /** What the hive told in its last moment may never have been kept: only what its log says counts. */
  private forget({ events, tail }: Snapshot): void {
    this.held = [];
    this.backlog = [];
    if (this.model.frames === 0) return;
    if (tail) this.model.correct(tail, this.model.lastEid);
    else this.model.correct(events);
    this.draw();
  }

  private takeFacts(given: Record<string, unknown>): void {
    this.facts.value = { ...factsOf(given, this.facts.peek()), session: given["session"] as AgentFacts["session"] };
  }

  /** Ask for the agent's state anew: the login's progress is in no event. */
  async refreshFacts(): Promise<void> {
    const given = await stateOf(this.name).catch(() => undefined);
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
