// What becomes of answers that break off, and of a secret that another sign-in replaced.
import { beforeEach, expect, it, vi } from "vitest";

const stored = new Map<string, string>([["hive.secret", "old"]]);
vi.stubGlobal("localStorage", { getItem: (key: string) => stored.get(key) ?? null, setItem: (key: string, value: string) => void stored.set(key, value), removeItem: (key: string) => void stored.delete(key) });
vi.stubGlobal("addEventListener", () => undefined);
const answers: (() => Response | Promise<Response>)[] = [];
vi.stubGlobal("fetch", () => Promise.resolve(answers.shift()!()));
const { ApiError, get, login, requestAll, signedIn } = await import("./api");

beforeEach(() => void answers.splice(0));

const broken = (text: string): Response =>
  new Response(
    new ReadableStream({
      start: (controller) => {
        controller.enqueue(new TextEncoder().encode(text));
        controller.error(new TypeError("the line broke"));
      },
    }),
  );

it("takes an answer that broke off for none, never for an empty one", async () => {
  answers.push(() => broken('{"seq": 1, "cont'));
  await expect(get("/api/state")).rejects.toMatchObject({ status: 0, code: "unreachable" });
  answers.push(() => new Response('{"seq": 1, "cont'));
  await expect(get("/api/state")).rejects.toBeInstanceOf(ApiError);
});

it("takes an answer without a body for an empty one", async () => {
  answers.push(() => new Response(null, { status: 204 }));
  expect(await get("/x")).toEqual({});
});

it("tells what became of each of many requests, also of those whose answer never came", async () => {
  const told: unknown[] = [];
  const tell = (at: number, failure?: unknown): void => void told.push([at, failure instanceof ApiError ? failure.code : failure]);
  const asked = [0, 1, 2].map(() => ({ cmd: "list" }) as const);
  const line = (at: number, status: number, body: object): string => `${JSON.stringify({ at, status, body })}\n`;
  answers.push(() => new Response(line(2, 200, {}) + line(0, 409, { code: "conflict" }) + '{"at": 1, "sta'));
  await requestAll(asked, tell);
  expect(told).toEqual([[2, undefined], [0, "conflict"], [1, "unreachable"]]);
  told.splice(0);
  answers.push(() => new Response('{"code": "bad_request"}', { status: 400 }));
  await requestAll(asked, tell);
  expect(told).toEqual([0, 1, 2].map((at) => [at, "bad_request"]));
});

it("keeps the new secret where the old one is refused late", async () => {
  let refuse!: (response: Response) => void;
  answers.push(() => new Promise<Response>((done) => (refuse = done)));
  const late = get("/api/state");
  answers.push(() => new Response('{"secret": "new"}'));
  await login("token");
  refuse(new Response("{}", { status: 401 }));
  await expect(late).rejects.toMatchObject({ status: 401 });
  expect(stored.get("hive.secret")).toBe("new");
  answers.push(() => new Response("{}", { status: 401 }));
  await expect(get("/api/state")).rejects.toMatchObject({ status: 401 });
  expect(signedIn.value).toBe(false);
});
