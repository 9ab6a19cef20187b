// The URL is the state: what is shown follows from it, and whatever the operator chooses is written into it.
// Pure matching below; history and clicks above.
import { computed, signal, type ReadonlySignal } from "@preact/signals";
import { h, type ComponentChildren, type JSX, type VNode } from "preact";

export type Params = Readonly<Record<string, string>>;

export interface Place {
  path: string;
  query: Params;
  hash: string;
}

/** Split a path with query and hash; never throws on a bad escape. */
export function parse(url: string): Place {
  const { pathname, search, hash } = new URL(url, "http://hive");
  return { path: pathname, query: Object.fromEntries(new URLSearchParams(search)), hash: hash.slice(1) };
}

/** The URL of a place. */
export function format(place: Place): string {
  const query = new URLSearchParams(Object.entries(place.query)).toString();
  return place.path + (query && `?${query}`) + (place.hash && `#${place.hash}`);
}

/** The params of `path` where it matches the pattern ("/agents/:name"), else undefined. */
export function match(pattern: string, path: string): Params | undefined {
  const wanted = pattern.split("/").filter(Boolean);
  const given = path.split("/").filter(Boolean);
  if (wanted.length !== given.length) return undefined;
  const params: Record<string, string> = {};
  for (const [i, part] of wanted.entries()) {
    const value = given[i]!;
    if (part.startsWith(":")) {
      try {
        params[part.slice(1)] = decodeURIComponent(value);
      } catch {
        return undefined;
      }
    } else if (part !== value) return undefined;
  }
  return params;
}

const here = (): Place => parse(location.pathname + location.search + location.hash);
const current = signal<Place>(typeof location === "undefined" ? parse("/") : here());

/** Where the page is. */
export const place: ReadonlySignal<Place> = current;
export const query: ReadonlySignal<Params> = computed(() => current.value.query);

/** Go to a path of this origin; `replace` leaves no history entry. */
export function navigate(to: string, options: { replace?: boolean } = {}): void {
  const target = parse(to);
  const url = format(target);
  if (url === format(current.peek())) return;
  history[options.replace ? "replaceState" : "pushState"](null, "", url);
  const samePath = target.path === current.peek().path;
  current.value = target;
  if (!samePath && !target.hash) document.getElementById("main")?.scrollTo?.(0, 0);
}

/** Change parts of the query; undefined or "" takes a part away. Replaces the history entry unless `push`. */
export function setQuery(change: Record<string, string | undefined>, options: { push?: boolean } = {}): void {
  const before = current.peek();
  const after: Record<string, string> = { ...before.query };
  for (const [key, value] of Object.entries(change)) {
    if (value === undefined || value === "") delete after[key];
    else after[key] = value;
  }
  navigate(format({ ...before, query: after }), { replace: !options.push });
}

/** Follow back, forward and ordinary clicks on links of this origin. */
export function listen(): void {
  addEventListener("popstate", () => (current.value = here()));
  addEventListener("hashchange", () => (current.value = here()));
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!link.hasAttribute("data-link")) return; // only our own links: agent text never navigates inside the pages
    event.preventDefault();
    navigate(link.pathname + link.search + link.hash);
  });
}

export type LinkProps = Omit<JSX.IntrinsicElements["a"], "href"> & { href: string; children?: ComponentChildren };

/** A link inside the pages. */
export function Link(props: LinkProps): VNode {
  return h("a" as string, { "data-link": "", ...props } as object);
}
