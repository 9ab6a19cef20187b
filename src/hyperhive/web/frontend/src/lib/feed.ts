// Snapshot and frames by the seq contract: subscribe, buffer, fetch the snapshot, drop what it already holds, apply the
// rest in order and once each. After a gap it starts over. `Feed` is pure but for `load`; `openFeed` gives it a stream.
import { ApiError, asApiError } from "./api";
import type { Frame } from "./protocol";
import { subscribe, type StreamMessage } from "./stream";

export interface FeedOf<S extends { seq: number }> {
  /** Fetch the snapshot; called when the subscription stands, and again after a gap. `anew`: see `reset`. */
  load(signal: AbortSignal, anew: boolean): Promise<S>;
  /**
   * Replace everything by it. `anew`: the hive may have been restarted since the last one. What it told in its last moment
   * may never have been kept, and its numbers may stand for other things now.
   */
  reset(snapshot: S, anew: boolean): void;
  /** What happened since, in order. */
  apply(frames: Frame[]): void;
  /** The snapshot could not be had (it is tried again), or there is no such stream (code "refused": nothing follows). */
  failed?(error: ApiError): void;
}

type Later = (run: () => void, ms: number) => () => void;

export class Feed<S extends { seq: number }> {
  #buffer: Frame[] = [];
  #seq: number | undefined; // undefined: no snapshot yet
  #anew = true; // whoever opens it may know of an earlier time
  #loading: AbortController | undefined;
  #cancelRetry: (() => void) | undefined;
  #tries = 0;

  constructor(
    private readonly of: FeedOf<S>,
    private readonly flushSoon: (run: () => void) => void,
    private readonly later: Later,
  ) {}

  hear(message: StreamMessage): void {
    if (message.t === "reset") {
      // The hive may have been restarted: what it said last has numbers that mean nothing among the new ones.
      this.#loading?.abort();
      this.#cancelRetry?.();
      this.#buffer = [];
      this.#seq = undefined;
      this.#anew = true;
    } else if (message.t === "subscribed" || message.t === "gap") this.#start();
    else if (message.t === "frames") {
      this.#buffer.push(...message.frames);
      if (this.#loading === undefined && this.#seq !== undefined) this.flushSoon(() => this.#flush());
    }
  }

  close(): void {
    this.#loading?.abort();
    this.#cancelRetry?.();
    this.#loading = new AbortController(); // never flushes again
    this.#buffer = [];
  }

  #start(): void {
    this.#loading?.abort();
    this.#cancelRetry?.();
    const stop = new AbortController();
    this.#loading = stop;
    this.of.load(stop.signal, this.#anew).then(
      (snapshot) => {
        if (stop.signal.aborted) return;
        this.#loading = undefined;
        this.#tries = 0;
        this.#seq = snapshot.seq;
        this.of.reset(snapshot, this.#anew);
        this.#anew = false;
        this.#flush();
      },
      (error: unknown) => {
        if (stop.signal.aborted) return;
        this.of.failed?.(asApiError(error));
        this.#tries += 1;
        this.#cancelRetry = this.later(() => this.#start(), Math.min(30_000, 1000 * 2 ** this.#tries));
      },
    );
  }

  #flush(): void {
    if (this.#seq === undefined || this.#loading !== undefined) return;
    const fresh: Frame[] = [];
    for (const frame of this.#buffer) {
      if (frame.seq !== undefined) {
        if (frame.seq <= this.#seq) continue;
        this.#seq = frame.seq;
      }
      fresh.push(frame);
    }
    this.#buffer = [];
    if (fresh.length > 0) this.of.apply(fresh);
  }
}

/** Read a stream by the contract until the returned function is called. Frames are applied once per animation frame. */
export function openFeed<S extends { seq: number }>(stream: string, of: FeedOf<S>): () => void {
  let waiting = false;
  const flushSoon = (run: () => void): void => {
    if (waiting) return;
    waiting = true;
    const once = (): void => {
      if (!waiting) return;
      waiting = false;
      run();
    };
    // A hidden page draws no frames; neither may it pile them up.
    if (document.visibilityState === "visible") requestAnimationFrame(once);
    setTimeout(once, 250);
  };
  const later: Later = (run, ms) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  };
  const feed = new Feed(of, flushSoon, later);
  const leave = subscribe(stream, (message) => {
    if (message.t === "refused") of.failed?.(new ApiError(404, "refused", message.detail));
    feed.hear(message);
  });
  return () => {
    leave();
    feed.close();
  };
}
