// This tab's end of the browser's one stream. The stream lives in a SharedWorker; without one, in the tab that holds a
// Web Lock, which serves the others over a BroadcastChannel; without either, in this tab alone.
import { effect, signal, type ReadonlySignal } from "@preact/signals";
import { currentSecret, signedIn, signedOutByServer } from "./api";
import { Hub, type FromHub, type ToHub } from "./hub";
import type { Connection } from "./link";
import { realPorts } from "./ports";
import type { Frame } from "./protocol";
import workerUrl from "./stream.worker?sharedworker&url";

export type { Connection } from "./link";
export type StreamMessage =
  | { t: "frames"; frames: Frame[] }
  | { t: "reset" }
  | { t: "subscribed" }
  | { t: "gap" }
  | { t: "refused"; detail: string };

const state = signal<Connection>({ state: "connecting", attempt: 0, since: Date.now() });
/** How the line stands; the shell shows it. */
export const connection: ReadonlySignal<Connection> = state;

const readers = new Map<string, Set<(message: StreamMessage) => void>>();
const tab = crypto.getRandomValues(new Uint32Array(2)).join("-");
let send: (message: ToHub) => void = () => undefined;

/** Read a stream ("hive" or an agent's name). Frames come in order and once each, from after `subscribed`. */
export function subscribe(stream: string, reader: (message: StreamMessage) => void): () => void {
  const present = readers.get(stream);
  if (present) {
    present.add(reader);
    send({ t: "sub", stream });
  } else {
    readers.set(stream, new Set([reader]));
    send({ t: "sub", stream });
  }
  return () => {
    const left = readers.get(stream);
    if (!left?.delete(reader) || left.size > 0) return;
    readers.delete(stream);
    send({ t: "unsub", stream });
  };
}

/** Do not wait for the next try. */
export function retryNow(): void {
  send({ t: "retry" });
}

const PING_MS = 15_000;
const PONG_MS = 5_000;
let heardAt = 0;

function hear(message: FromHub): void {
  heardAt = performance.now();
  if (message.t === "state") state.value = message.connection;
  else if (message.t === "unauthorized") signedOutByServer();
  else if (message.t === "frames") {
    for (const [stream, set] of readers) {
      const frames = message.frames.filter((frame) => (frame.stream ?? "hive") === stream);
      if (frames.length > 0) set.forEach((reader) => reader({ t: "frames", frames }));
    }
  } else {
    const streams = message.t === "reset" || message.stream === undefined ? [...readers.keys()] : [message.stream];
    const told: StreamMessage = message.t === "refused" ? { t: "refused", detail: message.detail } : { t: message.t };
    for (const stream of streams) readers.get(stream)?.forEach((reader) => reader(told));
  }
}

let held = false;

function hello(): void {
  if (navigator.locks !== undefined && !held) return; // said as soon as it is
  send({ t: "hello", secret: currentSecret(), visible: document.visibilityState === "visible", streams: [...readers.keys()] });
}

/** Begin. Called once, by the shell. */
export function startStream(): void {
  if (!throughWorker()) throughChannel();
  // Whoever holds the stream takes this lock for the sign that the tab is gone: hold it before they hear of the tab.
  if (navigator.locks === undefined) hello();
  else
    void navigator.locks.request(`hive-tab-${tab}`, () => {
      held = true;
      hello();
      return new Promise(() => undefined);
    });
  effect(() => {
    void signedIn.value;
    send({ t: "secret", secret: currentSecret() });
  });
  document.addEventListener("visibilitychange", () => send({ t: "visible", visible: document.visibilityState === "visible" }));
  addEventListener("pagehide", () => send({ t: "bye" }));
  addEventListener("pageshow", (event) => event.persisted && hello());
  addEventListener("online", retryNow);
}

function throughWorker(): boolean {
  if (typeof SharedWorker === "undefined") return false;
  try {
    toWorker();
    watchWorker();
    return true;
  } catch {
    return false;
  }
}

function toWorker(): void {
  const worker = new SharedWorker(trusted(workerUrl), { type: "module", name: "hive-stream" });
  worker.port.addEventListener("message", ({ data }: MessageEvent<FromHub>) => hear(data));
  worker.port.start();
  send = (message) => worker.port.postMessage({ tab, message });
}

/** Nobody tells of a worker that crashed: what is shown would be old for ever, and nobody notified. So it is asked, made anew. */
function watchWorker(): void {
  const ask = (): void => {
    if (!signedIn.peek()) return;
    const asked = performance.now();
    send({ t: "ping" });
    setTimeout(() => {
      if (heardAt >= asked) return;
      state.value = { state: "reconnecting", attempt: 1, since: Date.now(), why: "silent" };
      toWorker();
      hello();
    }, PONG_MS);
  };
  setInterval(ask, PING_MS);
  document.addEventListener("visibilitychange", ask);
}

interface Policy {
  createScriptURL(url: string): string;
}
let policy: Policy | undefined;

/** The server's CSP lets nothing but this policy, made once, name a script. */
function trusted(url: string): string {
  const types = (window as { trustedTypes?: { createPolicy(name: string, rules: object): Policy } }).trustedTypes;
  if (types === undefined) return url;
  policy ??= types.createPolicy("hive-worker", { createScriptURL: (asked: string) => (asked === workerUrl ? asked : "") });
  return policy.createScriptURL(url);
}

interface Posted {
  from?: string;
  to?: string;
  message: ToHub | FromHub | { t: "leader" };
}

function throughChannel(): void {
  if (navigator.locks === undefined) {
    const hub = new Hub(realPorts);
    send = (message) => hub.receive(tab, message, hear);
    return;
  }
  const channel = new BroadcastChannel("hive-stream");
  const post = (posted: Posted): void => channel.postMessage(posted);
  let hub: Hub | undefined;
  send = (message) => (hub ? hub.receive(tab, message, hear) : post({ from: tab, message }));
  channel.addEventListener("message", ({ data }: MessageEvent<Posted>) => {
    if (data.message.t === "leader") hello();
    else if (data.to === tab) hear(data.message as FromHub);
    else if (hub !== undefined && data.from !== undefined) {
      const from = data.from;
      hub.receive(from, data.message as ToHub, (message) => post({ to: from, message }));
      if (data.message.t === "hello") void navigator.locks.request(`hive-tab-${from}`, () => hub?.leave(from));
    }
  });
  void navigator.locks.request("hive-stream", () => {
    hub = new Hub(realPorts);
    hello();
    post({ message: { t: "leader" } });
    return new Promise(() => undefined);
  });
}
