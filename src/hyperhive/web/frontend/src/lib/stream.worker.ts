// The SharedWorker: owns the browser's one stream for all its tabs. Everything it does is `hub.ts`.
import { Hub, type FromHub, type ToHub } from "./hub";
import { realPorts } from "./ports";

/** The worker's own global, of which the DOM's types know nothing. */
declare const self: { addEventListener(kind: "connect", hear: (event: MessageEvent) => void): void };

const hub = new Hub(realPorts);

self.addEventListener("connect", (event) => {
  const port = event.ports[0]!;
  let tab: string | undefined;
  port.addEventListener("message", ({ data }: MessageEvent<{ tab: string; message: ToHub }>) => {
    if (tab === undefined) {
      tab = data.tab;
      // The tab holds a lock of its name while it lives: getting it means that the tab is gone, also when it crashed.
      const gone = tab;
      void navigator.locks?.request(`hive-tab-${gone}`, () => hub.leave(gone));
    }
    hub.receive(tab, data.message, (message: FromHub) => port.postMessage(message));
  });
  port.start();
});
