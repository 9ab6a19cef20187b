// The stream's own module needs a browser; here the feed is driven by hand.
import { expect, it, vi } from "vitest";
import type { Frame } from "./protocol";

vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => undefined, removeItem: () => undefined });
vi.stubGlobal("addEventListener", () => undefined);
vi.stubGlobal("document", { addEventListener: () => undefined, visibilityState: "visible" });
vi.mock("./stream", () => ({ subscribe: () => () => undefined }));
const { Feed } = await import("./feed");

const settled = (): Promise<void> => new Promise((done) => setTimeout(done, 0));
const frame = (seq: number): Frame => ({ kind: "x", seq });

/** A feed whose snapshots the test gives. */
function open() {
  const seen: (number | string)[] = [];
  const asked: { give(seq: number): void; fail(): void }[] = [];
  const timers: (() => void)[] = [];
  const feed = new Feed<{ seq: number }>(
    {
      load: () => new Promise((give, refuse) => asked.push({ give: (seq) => give({ seq }), fail: () => refuse(new Error("down")) })),
      reset: (snapshot) => seen.push(`reset ${snapshot.seq}`),
      apply: (frames) => seen.push(...frames.map((each) => each.seq!)),
      failed: () => seen.push("failed"),
    },
    (run) => run(),
    (run) => (timers.push(run), () => undefined),
  );
  return { feed, seen, asked, timers };
}

it("applies what came while the snapshot was fetched, but not what the snapshot holds", async () => {
  const { feed, seen, asked } = open();
  feed.hear({ t: "subscribed" });
  feed.hear({ t: "frames", frames: [frame(4), frame(5)] });
  feed.hear({ t: "frames", frames: [frame(6)] });
  expect(seen).toEqual([]);
  asked[0]!.give(5);
  await settled();
  expect(seen).toEqual(["reset 5", 6]);
  feed.hear({ t: "frames", frames: [frame(6), frame(7)] });
  expect(seen).toEqual(["reset 5", 6, 7]);
});

it("says of a snapshot whether it is of another stream, perhaps of a restarted hive", async () => {
  const heard: [boolean, boolean][] = [];
  let asked = false;
  const feed = new Feed<{ seq: number }>(
    { load: (_, anew) => ((asked = anew), Promise.resolve({ seq: 1 })), reset: (_, anew) => void heard.push([asked, anew]), apply: () => undefined },
    (run) => run(),
    () => () => undefined,
  );
  for (const t of ["reset", "subscribed", "gap", "reset", "subscribed"] as const) {
    feed.hear({ t });
    await settled();
  }
  expect(heard).toEqual([[true, true], [false, false], [true, true]]);
});

it("starts over after a gap, and drops an answer that it no longer waits for", async () => {
  const { feed, seen, asked } = open();
  feed.hear({ t: "subscribed" });
  asked[0]!.give(1);
  await settled();
  feed.hear({ t: "gap" });
  feed.hear({ t: "gap" });
  feed.hear({ t: "frames", frames: [frame(9), frame(10)] });
  asked[1]!.give(8);
  await settled();
  expect(seen).toEqual(["reset 1"]);
  asked[2]!.give(9);
  await settled();
  expect(seen).toEqual(["reset 1", "reset 9", 10]);
});

it("asks again where the snapshot could not be had", async () => {
  const { feed, seen, asked, timers } = open();
  feed.hear({ t: "subscribed" });
  asked[0]!.fail();
  await settled();
  expect(seen).toEqual(["failed"]);
  feed.hear({ t: "frames", frames: [frame(3)] });
  timers[0]!();
  asked[1]!.give(2);
  await settled();
  expect(seen).toEqual(["failed", "reset 2", 3]);
});

it("counts from anew with a server that was restarted", async () => {
  const { feed, seen, asked } = open();
  feed.hear({ t: "subscribed" });
  asked[0]!.give(900);
  await settled();
  feed.hear({ t: "subscribed" });
  asked[1]!.give(0);
  await settled();
  feed.hear({ t: "frames", frames: [frame(1)] });
  expect(seen).toEqual(["reset 900", "reset 0", 1]);
});

it("forgets what a hive said last before it was restarted", async () => {
  const { feed, seen, asked, timers } = open();
  feed.hear({ t: "subscribed" });
  feed.hear({ t: "frames", frames: [frame(901)] });
  asked[0]!.fail();
  await settled();
  feed.hear({ t: "reset" });
  feed.hear({ t: "frames", frames: [frame(1)] });
  feed.hear({ t: "subscribed" });
  asked[1]!.give(0);
  await settled();
  feed.hear({ t: "frames", frames: [frame(2)] });
  expect(timers).toHaveLength(1);
  expect(seen).toEqual(["failed", "reset 0", 1, 2]);
});
