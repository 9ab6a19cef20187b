/* Search over messages, questions, decisions, and what agents said and called. The URL holds the search. */

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { ScreenProps } from "../../app/routes";
import { type ApiError, asApiError, request } from "../../lib/api";
import { useActions } from "../../lib/keys";
import { useLoad } from "../../lib/load";
import type { Schemas } from "../../lib/protocol";
import { Link, navigate, setQuery } from "../../lib/router";
import { useTyped } from "../../lib/typed";
import { Age, Banner, Button, Chip, Empty, ErrorBox, Icon, type IconName, Loading, Page, Segmented, Text, TextInput } from "../../ui";
import { type Hit, placeOf } from "./place";
import "./search.css";

type Scope = "all" | "messages" | "events";
/** While the index catches up, it is asked again so often. */
const BEHIND_MS = 2000;
const SCOPES: readonly Scope[] = ["all", "messages", "events"];

export default function Screen({ query }: ScreenProps): JSX.Element {
  const q = query["q"] ?? "";
  const scope = SCOPES.find((one) => one === query["in"]) ?? "all";
  const field = useRef<HTMLInputElement>(null);
  const [words, setWords] = useTyped(q, (typed) => setQuery({ q: typed || undefined }), 120);
  useLayoutEffect(() => field.current?.focus(), []);
  return (
    <Page title="Search">
      <form class="search-form" role="search" onSubmit={(event) => { event.preventDefault(); document.querySelector<HTMLElement>(".search-hit")?.click(); }}>
        <TextInput
          inputRef={field}
          type="search"
          aria-label="Search for"
          placeholder={'Words, or "a phrase"'}
          value={words}
          onValue={setWords}
          onKeyDown={(event) => {
            if (event.key !== "ArrowDown") return;
            event.preventDefault();
            document.querySelector<HTMLElement>(".search-hit")?.focus();
          }}
        />
        <Segmented
          label="Where"
          options={[{ value: "all", label: "Everywhere" }, { value: "messages", label: "Messages" }, { value: "events", label: "Turns" }]}
          value={scope}
          onChange={(where: Scope) => setQuery({ in: where === "all" ? undefined : where })}
        />
      </form>
      {q.trim() ? <Hits key={`${q} ${scope}`} q={q} scope={scope} /> : <Empty title="Find a message, a tool call, a question or a decision" icon="search">All the words must be there; quotes make a phrase. The newest come first.</Empty>}
    </Page>
  );
}

function Hits({ q, scope }: { q: string; scope: Scope }): JSX.Element {
  const first = useLoad((signal) => request({ cmd: "search", query: q, in: scope, limit: 50 }, { signal }), [q, scope]);
  const [older, setOlder] = useState<{ below: number | undefined; hits: readonly Hit[]; whole: boolean }>();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const below = first.value?.hits.at(-1)?.cursor; // where newer ones came in, what stood below has a gap before it
  const { hits: later, whole } = older?.below === below && older ? older : { hits: [], whole: false };
  const hits = [...(first.value?.hits ?? []), ...later];
  const behind = first.value?.behind ?? false;
  useEffect(() => {
    if (!behind || later.length > 0) return undefined;
    const timer = setTimeout(first.reload, BEHIND_MS);
    return () => clearTimeout(timer);
  }, [first.value]);
  const [at, setAt] = useState(0);
  useActions(
    [
      { id: "search.next", title: "Next result", section: "Search", keys: "j", hidden: true, run: () => setAt(Math.min(at + 1, hits.length - 1)) },
      { id: "search.previous", title: "Previous result", section: "Search", keys: "k", hidden: true, run: () => setAt(Math.max(at - 1, 0)) },
      { id: "search.open", title: "Open the result", section: "Search", keys: "enter", hidden: true, run: () => hits[at] && navigate(placeOf(hits[at])) },
    ],
    [at, hits.length],
  );
  if (first.error) return <ErrorBox error={first.error} retry={first.reload} />;
  if (!first.value) return <Loading lines={8} />;
  if (hits.length === 0) return <Empty title="Nothing found" icon="search">{first.value.behind ? "The index is still catching up; what it learns shows up here." : "Fewer words find more."}</Empty>;
  const more = async (): Promise<void> => {
    const last = hits.at(-1);
    if (!last) return;
    setBusy(true);
    try {
      const page = await request({ cmd: "search", query: q, in: scope, limit: 50, before: last.cursor });
      setOlder({ below, hits: [...later, ...page.hits], whole: page.hits.length < 50 });
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      {first.value.behind ? <Banner tone="muted" icon="clock">The index is catching up: the newest or oldest texts may be missing.</Banner> : null}
      <p class="muted search-count" role="status">{`${hits.length}${first.value.hits.length < 50 || whole ? "" : "+"} found in ${first.value.took_ms} ms`}</p>
      <div class="search-list">{hits.map((hit, index) => <HitRow key={`${hit.kind}${hit.cursor}`} hit={hit} current={index === at} />)}</div>
      {error ? <ErrorBox error={error} /> : null}
      {first.value.hits.length === 50 && !whole ? <p class="search-more"><Button busy={busy} onClick={() => void more()}>Older results</Button></p> : null}
    </>
  );
}

const KINDS: Readonly<Record<Hit["kind"], { icon: IconName; word: string }>> = {
  message: { icon: "message", word: "message" },
  event: { icon: "bolt", word: "turn" },
  question: { icon: "question", word: "question" },
  decision: { icon: "approvals", word: "decision" },
};

function HitRow({ hit, current }: { hit: Hit; current: boolean }): JSX.Element {
  const { icon, word } = KINDS[hit.kind];
  return (
    <Link href={placeOf(hit)} class={`search-hit${current ? " current" : ""}`}>
      <Icon name={icon} />
      <span class="search-where">
        <b><Text text={whoOf(hit)} line /></b> <Chip title="What it is">{hit.turn === undefined ? word : `${word} ${hit.turn}`}</Chip>
      </span>
      <span class="search-snippet"><Snippet pieces={hit.snippet} /></span>
      <Age at={hit.at} />
    </Link>
  );
}

function whoOf(hit: Hit): string {
  if (hit.from && hit.to) return `${hit.from} → ${hit.to}`;
  return hit.agent ?? hit.from ?? "the hive";
}

function Snippet({ pieces }: { pieces: Schemas["SearchHit"]["snippet"] }): JSX.Element {
  return <>{pieces.map((piece, index) => (piece.hit ? <mark key={index}><Text text={piece.text} line /></mark> : <span key={index}><Text text={piece.text} line /></span>))}</>;
}
