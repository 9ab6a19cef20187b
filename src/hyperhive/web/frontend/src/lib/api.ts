// Talks to the hive: one request at a time, with the session's secret, and every failure as an `ApiError`.
// Streams are `stream.ts`. Keeps no state but the secret.
import { computed, signal, type ReadonlySignal } from "@preact/signals";
import type { AnswerTo, Request } from "./protocol";
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

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal, keepalive = false): Promise<T> {
  const used = secret.value;
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      method,
      headers: headers(body !== undefined),
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
      cache: "no-store",
      keepalive,
    });
    text = await response.text(); // may break off, as the request may
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "The hive did not answer.", "It may be restarting; this page reconnects by itself.");
  }
  const reply = parsed(text);
  if (response.ok && (reply !== undefined || text === "")) return (reply ?? {}) as T;
  // Not where another session has begun meanwhile: that one is as good as it was.
  if (response.status === 401 && path !== "/session" && secret.value === used) become(null);
  throw problem(response, reply);
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

function problem(response: Response, reply: unknown): ApiError {
  const told = typeof reply === "object" && reply !== null ? (reply as Record<string, unknown>) : {};
  const text = (key: string): string | undefined => (typeof told[key] === "string" ? (told[key] as string) : undefined);
  return new ApiError(
    response.status,
    text("code") ?? "failed",
    text("detail") ?? text("title") ?? `The hive answered ${response.status}.`,
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
