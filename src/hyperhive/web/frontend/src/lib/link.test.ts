import { describe, expect, it } from "vitest";
import { backoff, BEAT_MS, StreamLink, type LinkEvent, type LinkPorts } from "./link";

const settled = async (): Promise<void> => {
  for (let i = 0; i < 30; i += 1) await Promise.resolve();
  await new Promise((done) => setTimeout(done, 0));
};

/** A server whose streams the test writes, and a clock that the test moves. */
class World implements LinkPorts {
  time = 0;
  timers: { at: number; run: () => void }[] = [];
  opened: { headers: Record<string, string>; send(frame: object, id?: string): void; close(): void; signal: AbortSignal }[] = [];
  changes: { add: string[]; remove: string[] }[] = [];
  refuse: number | undefined;
  /** Changes get no answer, until who asks gives up. */
  mute = false;
  unknown = new Set<string>();
  told: LinkEvent[] = [];
  link = new StreamLink(this, (event) => this.told.push(event));

  fetch(path: string, init: RequestInit): Promise<Response> {
    if (path === "/stream") {
      if (this.refuse === 0) return Promise.reject(new TypeError("refused"));
      if (this.refuse !== undefined) return Promise.resolve(new Response("{}", { status: this.refuse }));
      let controller!: ReadableStreamDefaultController<Uint8Array>;
      const body = new ReadableStream<Uint8Array>({ start: (given) => void (controller = given) });
      const encode = (text: string): void => controller.enqueue(new TextEncoder().encode(text));
      this.opened.push({
        headers: init.headers as Record<string, string>,
        send: (frame, id) => encode(`${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(frame)}\n\n`),
        close: () => controller.close(),
        signal: init.signal!,
      });
      return Promise.resolve(new Response(body));
    }
    if (this.mute) return new Promise((_, refuse) => init.signal?.addEventListener("abort", () => refuse(new DOMException("aborted", "AbortError"))));
    const change = JSON.parse(String(init.body)) as { add: string[]; remove: string[] };
    const bad = change.add.find((name) => this.unknown.has(name));
    if (bad !== undefined) return Promise.resolve(new Response(JSON.stringify({ detail: `no ${bad}` }), { status: 404 }));
    this.changes.push(change);
    return Promise.resolve(new Response(JSON.stringify({ streams: {} })));
  }
  now(): number {
    return this.time;
  }
  later(run: () => void, ms: number): () => void {
    const timer = { at: this.time + ms, run };
    this.timers.push(timer);
    return () => void (this.timers = this.timers.filter((each) => each !== timer));
  }
  random(): number {
    return 0;
  }
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      const next = this.timers.filter((each) => each.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.timers = this.timers.filter((each) => each !== next);
      this.time = next.at;
      next.run();
      await settled();
    }
    this.time = end;
    await settled();
  }
  get server() {
    return this.opened.at(-1)!;
  }
  frames(): object[] {
    return this.told.flatMap((event) => (event.t === "frames" ? event.frames : []));
  }
  count(t: LinkEvent["t"]): number {
    return this.told.filter((event) => event.t === t).length;
  }
  async live(resume: "new" | "ok" | "gap" = "new", id = "S1"): Promise<void> {
    this.server.send({ kind: "resume", resume, id }, "e:0");
    await settled();
  }
}

async function connected(stream = "hive"): Promise<World> {
  const world = new World();
  world.link.secret("s");
  world.link.subscribe(stream);
  await settled();
  await world.live();
  return world;
}

describe("the link", () => {
  it("subscribes once the stream has its name, and says when that stands", async () => {
    const world = await connected();
    expect(world.changes).toEqual([{ add: ["hive"], remove: [] }]);
    expect(world.told).toContainEqual({ t: "subscribed", stream: "hive" });
    expect(world.link.connection.state).toBe("live");
  });

  it("gives doubled frames once, and says that some are missing", async () => {
    const world = await connected();
    world.server.send({ kind: "a", seq: 1, stream: "hive" }, "e:1");
    world.server.send({ kind: "a", seq: 1, stream: "hive" }, "e:1");
    world.server.send({ kind: "b", seq: 2, stream: "hive" }, "e:2");
    await settled();
    expect(world.frames()).toHaveLength(2);
    expect(world.count("gap")).toBe(0);
    world.server.send({ kind: "d", seq: 4, stream: "hive" }, "e:4");
    await settled();
    expect(world.frames()).toHaveLength(3);
    expect(world.count("gap")).toBe(1);
  });

  it("reconnects at once with the last id, and subscribes to nothing anew where the server goes on", async () => {
    const world = await connected();
    world.server.send({ kind: "a", seq: 1, stream: "hive" }, "e:1");
    await settled();
    world.server.close();
    await settled();
    await world.pass(0);
    expect(world.opened).toHaveLength(2);
    expect(world.server.headers["last-event-id"]).toBe("e:1");
    await world.live("ok");
    expect(world.changes).toHaveLength(1);
    expect(world.link.connection.state).toBe("live");
  });

  it("subscribes to everything anew after a gap", async () => {
    const world = await connected();
    world.server.close();
    await settled();
    await world.pass(0);
    await world.live("gap", "S2");
    expect(world.changes).toEqual([{ add: ["hive"], remove: [] }, { add: ["hive"], remove: [] }]);
    expect(world.count("subscribed")).toBe(2);
    // What was heard of the old stream is over before the new one says anything.
    const words = world.told.map((event) => event.t).filter((t) => t === "reset" || t === "subscribed");
    expect(words).toEqual(["reset", "subscribed", "reset", "subscribed"]);
  });

  it("never gives up: at once, every second while a hive restarts, then doubled to 30 s", async () => {
    expect([0, 1, 2, 20, 21, 22, 24, 25, 500].map((attempt) => backoff(attempt, 0))).toEqual([0, 1000, 1000, 1000, 2000, 4000, 16_000, 30_000, 30_000]);
    expect(backoff(500, 0.999)).toBeLessThan(30_500);
    const world = await connected();
    world.refuse = 0;
    world.server.close();
    await settled();
    await world.pass(3_600_000);
    expect(world.link.connection).toMatchObject({ state: "reconnecting", why: "refused" });
    expect(world.link.connection.attempt).toBeGreaterThan(100);
    world.refuse = undefined;
    await world.pass(31_000);
    await world.live("gap", "S2");
    expect(world.link.connection.state).toBe("live");
  });

  it("notices a silent death after three missed heartbeats", async () => {
    const world = await connected();
    await world.pass(2 * BEAT_MS);
    world.server.send({ kind: "heartbeat" });
    await settled();
    await world.pass(3 * BEAT_MS - 1);
    expect(world.opened).toHaveLength(1);
    await world.pass(1);
    expect(world.opened).toHaveLength(2);
    expect(world.opened[0]!.signal.aborted).toBe(true);
  });

  it("takes one missed heartbeat for death when somebody looks again", async () => {
    const world = await connected();
    world.link.visible(false);
    await world.pass(BEAT_MS + 3000);
    world.link.visible(true);
    await world.pass(0);
    expect(world.opened).toHaveLength(2);
  });

  it("dials slowly while nobody looks, and at once when somebody does", async () => {
    expect([0, 1, 2, 5, 6, 7, 500].map((attempt) => backoff(attempt, 0, false))).toEqual([0, 2000, 4000, 32_000, 60_000, 60_000, 60_000]);
    expect(backoff(500, 0.999, false)).toBeGreaterThan(30_000);
    const world = await connected();
    world.refuse = 0;
    world.link.visible(false);
    world.server.close();
    await settled();
    await world.pass(3_600_000);
    const { attempt } = world.link.connection;
    expect(attempt).toBeGreaterThan(55);
    expect(attempt).toBeLessThan(70);
    world.refuse = undefined;
    for (let second = 0; second < 60 && world.opened.length < 2; second += 1) await world.pass(1000);
    expect(world.opened).toHaveLength(2);
    await world.live("gap", "S2");
    expect(world.link.connection.state).toBe("live");
    world.refuse = 0;
    world.server.close();
    await settled();
    await world.pass(600_000);
    world.refuse = undefined;
    world.link.visible(true);
    await settled();
    expect(world.opened).toHaveLength(3);
  });

  it("says that the session ended, and asks no more", async () => {
    const world = new World();
    world.refuse = 401;
    world.link.secret("old");
    await settled();
    await world.pass(100_000);
    expect(world.count("unauthorized")).toBe(1);
    world.refuse = undefined;
    world.link.secret("new");
    await settled();
    expect(world.server.headers["x-hive-secret"]).toBe("new");
  });

  it("leaves out a stream that is not there, and has the others", async () => {
    const world = await connected();
    world.unknown.add("ghost");
    world.link.subscribe("ghost");
    world.link.subscribe("alice");
    await settled();
    expect(world.told).toContainEqual({ t: "refused", stream: "ghost", detail: "no ghost" });
    expect(world.told).toContainEqual({ t: "subscribed", stream: "alice" });
  });

  it("lets no removal overtake the wish that came after it", async () => {
    const world = await connected();
    world.link.unsubscribe("hive");
    world.link.subscribe("hive");
    await settled();
    expect(world.changes.slice(1)).toEqual([{ add: [], remove: ["hive"] }, { add: ["hive"], remove: [] }]);
    expect(world.count("subscribed")).toBe(2);
  });

  it("is not held up by a change that was never answered, once the line is another one", async () => {
    const world = await connected();
    world.mute = true;
    world.link.subscribe("alice");
    await settled();
    await world.pass(3 * BEAT_MS);
    expect(world.opened).toHaveLength(2);
    world.mute = false;
    await world.live("gap", "S2");
    await world.pass(2000);
    expect(world.changes.at(-1)!.add.toSorted()).toEqual(["alice", "hive"]);
    expect(world.told).toContainEqual({ t: "subscribed", stream: "alice" });
  });

  it("takes names off the server's stream also where another one that it asked for is not there", async () => {
    const world = await connected();
    world.unknown.add("ghost");
    world.link.unsubscribe("hive");
    world.link.subscribe("ghost");
    await settled();
    expect(world.changes.at(-1)).toEqual({ add: [], remove: ["hive"] });
  });

  it("asks once more for a stream that ended, and takes a refusal for an answer", async () => {
    const world = await connected();
    world.server.send({ kind: "ended", stream: "hive" }, "e:1");
    await settled();
    expect(world.changes).toHaveLength(1);
    await world.pass(2000);
    expect(world.changes.at(-1)).toEqual({ add: ["hive"], remove: [] });
    expect(world.count("subscribed")).toBe(2);
    world.unknown.add("hive");
    world.server.send({ kind: "ended", stream: "hive" }, "e:2");
    await settled();
    await world.pass(60_000 / 4);
    expect(world.count("refused")).toBe(1);
    expect(world.changes).toHaveLength(2);
  });
});
