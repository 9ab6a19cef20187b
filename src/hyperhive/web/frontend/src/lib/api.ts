// Talks to the hive: one request at a time, with the session's secret, and every failure as an `ApiError`.
// Streams are `stream.ts`. Keeps no state but the secret.
import { computed, signal, type ReadonlySignal } from "@preact/signals";
import type { AnswerTo, Request, Schemas } from "./protocol";
import { keep, kept } from "./storage";

const SECRET = "hive.secret";
const SESSION = "hive.session";

/** A request that failed: `detail` is a plain sentence, `hint` what to do. Status 0: nobody answered. */
export class ApiError extends Error {
  override name = "ApiError";
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly hint?: string,
    readonly requestId?: string,
  ) {
    super(detail);
  }
}

const secret = signal<string | null>(kept(SECRET));
export const signedIn: ReadonlySignal<boolean> = computed(() => secret.value !== null);

/** The session's secret, for the worker that holds the stream. */
export function currentSecret(): string | null {
  return secret.value;
}

function become(value: string | null): void {
  keep(SECRET, value); // where that is not possible, one is signed in as long as the page is open
  secret.value = value;
}

// Another tab signed in or out.
addEventListener("storage", (event) => {
  if (event.key === SECRET) secret.value = event.newValue;
});

/** Trade the login link's token for a session. */
export async function login(token: string): Promise<void> {
  const reply = await call<{ secret: string; id: number }>("POST", "/session", { token });
  keep(SESSION, String(reply.id));
  become(reply.secret);
}

/** Which of the hive's sessions this browser's is. */
export function currentSession(): number {
  return Number(kept(SESSION) ?? 0);
}

/** End this browser's session; it is forgotten here also where the hive cannot be reached. */
export async function logout(): Promise<void> {
  try {
    await call("DELETE", "/session");
  } finally {
    become(null);
  }
}

/**
 * Ask the hive. `signal` gives up waiting; the request may have been carried out all the same. `keepalive`: it is sent
 * also where the page goes away meanwhile (64 KiB at most).
 */
export function request<R extends Request>(asked: R, options: { signal?: AbortSignal; keepalive?: boolean } = {}): Promise<AnswerTo<R>> {
  return call<AnswerTo<R>>("POST", "/api/request", asked, options.signal, options.keepalive);
}

export function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return call<T>("GET", path, undefined, signal);
}

export function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  return call<T>("POST", path, body, signal);
}

/**
 * Ask the hive many things on one connection: a browser has six, and an answer may take as long as a turn. Tells what
 * became of each, once, as soon as it is known; returns when nothing is open any more.
 */
export async function requestAll(asked: readonly Request[], tell: (at: number, failure?: ApiError) => void): Promise<void> {
  const open = new Set(asked.keys());
  let failure = unreachable();
  try {
    const used = secret.value;
    const response = await send("POST", "/api/requests", { requests: asked });
    if (!response.ok || response.body === null) throw refused(response.status, parsed(await response.text()), used);
    for await (const line of lines(response.body)) {
      const { at, status, body } = parsed(line) as Schemas["Outcome"];
      if (open.delete(at)) tell(at, status === 200 ? undefined : problem(status, body));
    }
  } catch (error) {
    if (error instanceof ApiError) failure = error;
  }
  open.forEach((at) => tell(at, failure));
}

async function* lines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop()!;
    yield* whole;
  }
}

function send(method: string, path: string, body?: unknown, signal?: AbortSignal, keepalive = false): Promise<Response> {
  return fetch(path, {
    method,
    headers: headers(body !== undefined),
    body: body === undefined ? null : JSON.stringify(body),
    signal: signal ?? null,
    cache: "no-store",
    keepalive,
  });
}

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal, keepalive = false): Promise<T> {
  const used = secret.value;
  let response: Response;
  let text: string;
  try {
    response = await send(method, path, body, signal, keepalive);
    text = await response.text(); // may break off, as the request may
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  }
  const reply = parsed(text);
  if (response.ok && (reply !== undefined || text === "")) return (reply ?? {}) as T;
  throw path === "/session" ? problem(response.status, reply) : refused(response.status, reply, used);
}

const unreachable = (): ApiError => new ApiError(0, "unreachable", "The hive did not answer.", "It may be restarting; this page reconnects by itself.");

/** A refusal; that of the session ends it, unless another one has begun meanwhile: that one is as good as it was. */
function refused(status: number, reply: unknown, used: string | null): ApiError {
  if (status === 401 && secret.value === used) become(null);
  return problem(status, reply);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function headers(withBody: boolean): Record<string, string> {
  const given: Record<string, string> = { accept: "application/json" };
  if (withBody) given["content-type"] = "application/json";
  if (secret.value !== null) given["x-hive-secret"] = secret.value;
  return given;
}

function problem(status: number, reply: unknown): ApiError {
  const told = typeof reply === "object" && reply !== null ? (reply as Record<string, unknown>) : {};
  const text = (key: string): string | undefined => (typeof told[key] === "string" ? (told[key] as string) : undefined);
  return new ApiError(
    status,
    text("code") ?? "failed",
    text("detail") ?? text("title") ?? `The hive answered ${status}.`,
    text("hint"),
    text("request_id"),
  );
}

/** Anything thrown, as an ApiError: screens show one kind of failure. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(0, "bug", error instanceof Error ? error.message : String(error));
}

/** The hive said, elsewhere than to a request, that this session has ended. */
export function signedOutByServer(): void {
  become(null);
}
