// The SharedWorker: owns the browser's one stream for all its tabs. Everything it does is `hub.ts`.
import { Hub, type FromHub, type ToHub } from "./hub";
import { realPorts } from "./ports";

/** The worker's own global, of which the DOM's types know nothing. */
declare const self: { addEventListener(kind: "connect", hear: (event: MessageEvent) => void): void };

const hub = new Hub(realPorts);

self.addEventListener("connect", (event) => {
  const port = event.ports[0]!;
  let watched = false;
  port.addEventListener("message", ({ data: { tab, message } }: MessageEvent<{ tab: string; message: ToHub }>) => {
    if (message.t === "hello" && !watched) {
      // The tab that says hello holds a lock of its name while it lives: getting it means that the tab is gone, also when
      // it crashed.
      watched = true;
      void navigator.locks?.request(`hive-tab-${tab}`, () => hub.leave(tab));
    }
    hub.receive(tab, message, (answer: FromHub) => port.postMessage(answer));
  });
  port.start();
});
