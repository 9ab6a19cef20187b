// Shares one link among the tabs of a browser: counts who wants what and hands each tab its frames.
// Runs where the link runs; how messages travel (port, channel, call) is its caller's business.
import { StreamLink, type Connection, type LinkEvent, type LinkPorts } from "./link";
import type { Frame } from "./protocol";

/** From a tab. */
export type ToHub =
  | { t: "hello"; secret: string | null; visible: boolean; streams: string[] }
  | { t: "secret"; secret: string | null }
  | { t: "sub"; stream: string }
  | { t: "unsub"; stream: string }
  | { t: "visible"; visible: boolean }
  | { t: "retry" }
  /** Whether anybody is there: answered by the state. */
  | { t: "ping" }
  | { t: "bye" };

/** To a tab. */
export type FromHub =
  | { t: "state"; connection: Connection }
  | { t: "frames"; frames: Frame[] }
  | { t: "reset" }
  | { t: "subscribed"; stream: string }
  | { t: "gap"; stream?: string }
  | { t: "refused"; stream: string; detail: string }
  | { t: "unauthorized" };

interface Tab {
  streams: Set<string>;
  visible: boolean;
  send(message: FromHub): void;
}

export class Hub {
  #tabs = new Map<string, Tab>();
  #link: StreamLink;

  constructor(ports: LinkPorts) {
    this.#link = new StreamLink(ports, (event) => this.#heard(event));
  }

  /** A message of the tab of this name, which is answered by `send`. */
  receive(name: string, message: ToHub, send: (message: FromHub) => void): void {
    if (message.t === "hello") {
      this.#leave(name);
      this.#tabs.set(name, { streams: new Set(), visible: message.visible, send });
      this.#look();
      this.#link.secret(message.secret);
      send({ t: "state", connection: this.#link.connection });
      message.streams.forEach((stream) => this.#join(name, stream));
      return;
    }
    const tab = this.#tabs.get(name);
    if (tab === undefined) return;
    if (message.t === "sub") this.#join(name, message.stream);
    else if (message.t === "unsub") this.#part(tab, message.stream);
    else if (message.t === "secret") this.#link.secret(message.secret);
    else if (message.t === "retry") this.#link.retry();
    else if (message.t === "ping") send({ t: "state", connection: this.#link.connection });
    else if (message.t === "bye") this.leave(name);
    else {
      tab.visible = message.visible;
      this.#look();
    }
  }

  /** The tab is gone. */
  leave(name: string): void {
    this.#leave(name);
    this.#look();
  }

  close(): void {
    this.#link.close();
  }

  #leave(name: string): void {
    const tab = this.#tabs.get(name);
    if (tab === undefined) return;
    [...tab.streams].forEach((stream) => this.#part(tab, stream));
    this.#tabs.delete(name);
  }

  #join(name: string, stream: string): void {
    const tab = this.#tabs.get(name)!;
    tab.streams.add(stream);
    this.#link.subscribe(stream, (told) => tab.send(told));
  }

  #part(tab: Tab, stream: string): void {
    tab.streams.delete(stream);
    if (!this.#wants(stream)) this.#link.unsubscribe(stream);
  }

  #wants(stream: string): boolean {
    return [...this.#tabs.values()].some((tab) => tab.streams.has(stream));
  }

  #look(): void {
    this.#link.visible([...this.#tabs.values()].some((tab) => tab.visible));
  }

  #heard(event: LinkEvent): void {
    for (const tab of this.#tabs.values()) {
      if (event.t === "frames") {
        const frames = event.frames.filter((frame) => tab.streams.has(frame.stream ?? "hive"));
        if (frames.length > 0) tab.send({ t: "frames", frames });
      } else if (!("stream" in event) || event.stream === undefined || tab.streams.has(event.stream)) tab.send(event);
    }
  }
}
