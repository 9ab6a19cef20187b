// One browser's line to the hive: a single fetch-based `/stream` that is kept up, with its subscriptions.
// Never gives up; notices a line that died in silence; resumes where it left off, or says that something is missing.
// Runs in the SharedWorker (or in a tab). Time, fetch and chance are given, so that tests drive it.
import type { Frame } from "./protocol";
import { SseParser } from "./sse";

export interface Connection {
  /** `connecting`: for the first time; `reconnecting`: was live; `offline`: the browser says there is no network. */
  state: "connecting" | "live" | "reconnecting" | "offline";
  /** Tries since it was last live. */
  attempt: number;
  /** When the next try comes (unix ms), where it is not under way. */
  nextAt?: number;
  /** Since when it is in this state (unix ms). */
  since: number;
  why?: "closed" | "silent" | "refused";
}

/**
 * What the link tells: frames in order and once each; `gap`: some are missing, refetch; `subscribed`: it stands; `reset`: it
 * is another stream, perhaps of a restarted hive: what came before is over, and `subscribed` follows for what is wanted.
 */
export type LinkEvent =
  | { t: "reset" }
  | { t: "state"; connection: Connection }
  | { t: "frames"; frames: Frame[] }
  | { t: "subscribed"; stream: string }
  | { t: "gap"; stream?: string }
  | { t: "refused"; stream: string; detail: string }
  | { t: "unauthorized" };

export interface LinkPorts {
  fetch(path: string, init: RequestInit): Promise<Response>;
  now(): number;
  later(run: () => void, ms: number): () => void;
  random(): number;
}

export const BEAT_MS = 15_000;
const CONNECT_MS = 10_000;
const SILENT_MS = 3 * BEAT_MS;
const ENDED_MS = 2000;

/** Tries that come quickly: about half a minute of them, so that a restarted hive is found at once. */
const QUICK = 20;

/** The longest pause between two tries while nobody looks: a notification comes no later for it. */
export const HIDDEN_MS = 60_000;

/**
 * When to try again after so many failures: at once, every 1 to 1.5 s for a while, then doubled to 30 s. While nobody
 * looks: at once, after about 2 s, then doubled to a minute, each anywhere in the last half of that, so that the browsers
 * of a house do not dial together.
 */
export function backoff(attempt: number, random: number, seen = true): number {
  if (attempt === 0) return 0;
  if (!seen) return Math.min(HIDDEN_MS, 2000 * 2 ** (attempt - 1)) * (1 - random / 2);
  return Math.min(30_000, 1000 * 2 ** Math.max(0, attempt - QUICK)) + random * 500;
}

export class StreamLink {
  #wanted = new Set<string>();
  #standing = new Set<string>();
  #refused = new Set<string>();
  #leaving = new Set<string>();
  #syncing = false;
  #asking: AbortController | undefined;
  #id: string | undefined; // the server's name for our stream
  #last: string | undefined; // the last SSE id that was handled
  #state: Connection;
  #secret: string | null = null;
  #visible = true;
  #running: AbortController | undefined;
  #cancelRetry: (() => void) | undefined;
  #cancelWatch: (() => void) | undefined;
  #heard = 0;

  constructor(
    private readonly ports: LinkPorts,
    private readonly tell: (event: LinkEvent) => void,
  ) {
    this.#state = { state: "connecting", attempt: 0, since: ports.now() };
  }

  get connection(): Connection {
    return this.#state;
  }

  /** Sign in or out. Without a secret nothing is tried. */
  secret(secret: string | null): void {
    if (secret === this.#secret) return;
    this.#secret = secret;
    this.#drop();
    this.#id = this.#last = undefined;
    this.#standing.clear();
    this.#become({ state: "connecting", attempt: 0, since: this.ports.now() });
    if (secret !== null) void this.#connect();
  }

  /** Want a stream's frames. Everybody is told when it stands; where it does already, only `asker`. */
  subscribe(stream: string, asker: (event: LinkEvent) => void = this.tell): void {
    this.#wanted.add(stream);
    this.#refused.delete(stream);
    if (this.#standing.has(stream) && !this.#leaving.has(stream)) asker({ t: "subscribed", stream });
    else void this.#sync();
  }

  unsubscribe(stream: string): void {
    this.#wanted.delete(stream);
    void this.#sync();
  }

  /** Whether anybody looks. Hidden pages, which may have to notify, dial slowly; one that comes back wants to know at once. */
  visible(visible: boolean): void {
    const back = visible && !this.#visible;
    this.#visible = visible;
    if (!back || this.#secret === null) return;
    if (this.#state.state !== "live") this.retry();
    else if (this.ports.now() - this.#heard > BEAT_MS + 2000) this.#lost("silent");
  }

  /** Try now. */
  retry(): void {
    if (this.#secret === null || this.#state.state === "live" || this.#running) return;
    this.#cancelRetry?.();
    void this.#connect();
  }

  close(): void {
    this.#secret = null;
    this.#drop();
  }

  #become(connection: Connection): void {
    this.#state = connection;
    this.tell({ t: "state", connection });
  }

  #drop(): void {
    this.#running?.abort();
    this.#running = undefined;
    this.#asking?.abort(); // it went the same way: unanswered, it would hold up every later change
    this.#cancelRetry?.();
    this.#cancelWatch?.();
  }

  async #connect(): Promise<void> {
    const stop = new AbortController();
    this.#running = stop;
    this.#become({ ...this.#state, nextAt: undefined } as Connection);
    const giveUp = this.ports.later(() => stop.abort(), CONNECT_MS);
    try {
      const response = await this.ports.fetch("/stream", { headers: this.#headers(this.#last), signal: stop.signal, cache: "no-store" });
      giveUp();
      if (this.#running !== stop) return;
      if (response.status === 401) {
        this.#drop();
        this.#secret = null;
        this.tell({ t: "unauthorized" });
        return;
      }
      if (!response.ok || response.body === null) throw new Error(`refused with ${response.status}`);
      this.#hear(stop);
      await this.#read(response.body, stop);
      if (this.#running === stop) this.#lost("closed");
    } catch {
      giveUp();
      if (this.#running === stop) this.#lost(this.#state.state === "live" ? "closed" : "refused");
    }
  }

  async #read(body: ReadableStream<Uint8Array>, stop: AbortController): Promise<void> {
    const parser = new SseParser();
    const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.#running !== stop) return;
      this.#hear(stop);
      const frames: Frame[] = [];
      for (const event of parser.push(value)) {
        let frame: Frame;
        try {
          frame = JSON.parse(event.data) as Frame;
        } catch {
          continue;
        }
        if (frame.kind === "resume") this.#resumed(frame, event.id);
        else if (frame.kind === "lagged") this.tell({ t: "gap", ...(frame.stream === undefined ? {} : { stream: frame.stream }) });
        else if (frame.kind !== "heartbeat") {
          if (this.#isNext(event.id)) frames.push(frame);
          if (frame.kind === "ended" && frame.stream !== undefined) {
            this.#standing.delete(frame.stream);
            this.#refused.add(frame.stream);
            this.#askAgain(frame.stream);
          }
          continue;
        }
        if (event.id !== undefined) this.#last = event.id;
      }
      if (frames.length > 0) this.tell({ t: "frames", frames });
    }
  }

  /** A stream ended: by a fault, or there is no such agent any more. The one is subscribed to anew, the other refused. */
  #askAgain(stream: string): void {
    this.ports.later(() => {
      if (this.#refused.delete(stream)) void this.#sync();
    }, ENDED_MS);
  }

  /** Whether a frame is a new one; notices doubled ones (dropped) and missing ones (told). */
  #isNext(id: string | undefined): boolean {
    if (id === undefined) return true;
    const [epoch, n] = split(id);
    const [before, m] = split(this.#last ?? "");
    this.#last = id;
    if (epoch !== before || m < 0) return true;
    if (n <= m) {
      this.#last = `${before}:${m}`;
      return false;
    }
    if (n > m + 1) this.tell({ t: "gap" });
    return true;
  }

  #resumed(frame: Frame, id: string | undefined): void {
    this.#id = String(frame["id"]);
    this.#become({ state: "live", attempt: 0, since: this.ports.now() });
    if (frame["resume"] === "ok") {
      void this.#sync(); // what was asked for while the line was down
      return;
    }
    this.#standing.clear();
    this.#refused.clear();
    this.tell({ t: "reset" });
    this.#last = id;
    void this.#sync();
  }

  /** Bring the server's subscriptions to what is wanted: one change at a time, so that none overtakes another. */
  async #sync(): Promise<void> {
    if (this.#syncing) return;
    this.#syncing = true;
    try {
      for (;;) {
        if (this.#state.state !== "live") return; // what is missing is asked for again when the line stands
        const add = [...this.#wanted].filter((stream) => !this.#standing.has(stream) && !this.#refused.has(stream));
        const remove = [...this.#standing].filter((stream) => !this.#wanted.has(stream));
        if (add.length + remove.length === 0) return;
        this.#leaving = new Set(remove);
        if (!(await this.#ask(add, remove))) {
          this.ports.later(() => void this.#sync(), 2000);
          return;
        }
      }
    } finally {
      this.#syncing = false;
      this.#leaving.clear();
    }
  }

  /** One change; whether it makes sense to go on. */
  async #ask(add: string[], remove: string[]): Promise<boolean> {
    const id = this.#id!;
    const stop = new AbortController();
    this.#asking = stop;
    const giveUp = this.ports.later(() => stop.abort(), CONNECT_MS);
    let response: Response;
    try {
      response = await this.ports.fetch(`/stream/${encodeURIComponent(id)}/subscriptions`, {
        method: "POST",
        headers: { ...this.#headers(), "content-type": "application/json" },
        body: JSON.stringify({ add, remove }),
        signal: stop.signal,
      });
    } catch {
      return false; // the line itself is in trouble, which is noticed where it is read
    } finally {
      giveUp();
    }
    if (id !== this.#id) return true; // it was another stream's; see what this one lacks
    if (response.ok) {
      remove.forEach((stream) => this.#standing.delete(stream));
      for (const stream of add) {
        this.#standing.add(stream);
        if (this.#wanted.has(stream)) this.tell({ t: "subscribed", stream });
      }
      return true;
    }
    // One name that is not there must not cost the others their frames: ask for each by itself.
    if (add.length > 1 || (add.length > 0 && remove.length > 0)) {
      if (remove.length > 0 && !(await this.#ask([], remove))) return false;
      for (const stream of add) if (!(await this.#ask([stream], []))) return false;
      return true;
    }
    const told = (await response.json().catch(() => ({}))) as { detail?: string };
    for (const stream of add) {
      this.#refused.add(stream);
      this.tell({ t: "refused", stream, detail: told.detail ?? "There is no such stream." });
    }
    remove.forEach((stream) => this.#standing.delete(stream));
    return response.status < 500;
  }

  #hear(stop: AbortController): void {
    this.#heard = this.ports.now();
    this.#cancelWatch?.();
    this.#cancelWatch = this.ports.later(() => {
      if (this.#running === stop) this.#lost("silent");
    }, SILENT_MS);
  }

  #lost(why: NonNullable<Connection["why"]>): void {
    this.#drop();
    const was = this.#state;
    const attempt = was.state === "live" ? 0 : was.attempt + 1;
    const wait = backoff(attempt, this.ports.random(), this.#visible);
    const since = was.state === "live" ? this.ports.now() : was.since;
    this.#become({ state: was.state === "connecting" ? "connecting" : "reconnecting", attempt, nextAt: this.ports.now() + wait, since, why });
    this.#cancelRetry = this.ports.later(() => void this.#connect(), wait);
  }

  #headers(last?: string): Record<string, string> {
    const headers: Record<string, string> = { accept: "text/event-stream, application/json", "x-hive-secret": this.#secret ?? "" };
    if (last !== undefined) headers["last-event-id"] = last;
    return headers;
  }
}

/** "EPOCH:SEQ" in its parts; a number that is none is -1. */
function split(id: string): [string, number] {
  const colon = id.lastIndexOf(":");
  const n = Number(id.slice(colon + 1));
  return colon < 0 || !Number.isInteger(n) ? [id, -1] : [id.slice(0, colon), n];
}
