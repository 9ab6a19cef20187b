// What becomes of answers that break off, and of a secret that another sign-in replaced.
import { beforeEach, expect, it, vi } from "vitest";

const stored = new Map<string, string>([["hive.secret", "old"]]);
vi.stubGlobal("localStorage", { getItem: (key: string) => stored.get(key) ?? null, setItem: (key: string, value: string) => void stored.set(key, value), removeItem: (key: string) => void stored.delete(key) });
vi.stubGlobal("addEventListener", () => undefined);
const answers: (() => Response | Promise<Response>)[] = [];
vi.stubGlobal("fetch", () => Promise.resolve(answers.shift()!()));
const { ApiError, get, login, signedIn } = await import("./api");

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
