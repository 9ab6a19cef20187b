/*
 * What led to a question or an approval, beside it: the turn that asked, and the messages that this turn was answering, as
 * quotes of who wrote them. Fetched when it comes into sight. Nothing that is quoted acts, or is formatted.
 */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { request } from "../lib/api";
import { useLoad } from "../lib/load";
import { Link } from "../lib/router";
import { Age, AgentLink, Text } from "../ui";
import { type OriginMessage, type OriginPage, briefly, placeOf, saidIn } from "./origin";
import "./origin.css";

interface OriginProps {
  /** Of which question or approval. */
  of: { readonly question: number } | { readonly approval: number };
  /** In a list: one line that opens. */
  brief?: boolean;
}

export function Origin({ of, brief }: OriginProps): JSX.Element {
  const place = useRef<HTMLElement>(null);
  const seen = useSeen(place);
  const loaded = useLoad(async (signal) => (seen ? request({ cmd: "origin", ...of }, { signal }) : undefined), [JSON.stringify(of), seen]);
  const page = loaded.value;
  return (
    <section ref={place} class={brief ? "origin brief" : "origin"} aria-label="What led to it">
      {page ? brief ? <Brief page={page} /> : <Whole page={page} /> : <p class="muted">{loaded.error ? `What led to it could not be fetched: ${loaded.error.detail}` : "\u00a0"}</p>}
    </section>
  );
}

function Brief({ page }: { page: OriginPage }): JSX.Element {
  if (page.messages.length === 0) return <Whole page={page} />;
  return (
    <details>
      <summary>
        <span class="origin-line"><Text text={briefly(page)} line /></span>
      </summary>
      <Whole page={page} />
    </details>
  );
}

function Whole({ page }: { page: OriginPage }): JSX.Element {
  const turn = page.turn === undefined ? "a turn" : <Link href={`/agents/${encodeURIComponent(page.asker)}/t/${page.turn}`}>{`turn ${page.turn}`}</Link>;
  if (page.messages.length === 0) {
    return (
      <p class="muted">
        {page.turn === undefined ? null : <>Asked in {turn}. </>}
        {!page.known ? "What led to it was not noted." : page.more > 0 ? "The messages that led to it are not kept any more." : <><Text text={page.asker} line /> was answering nobody’s message.</>}
      </p>
    );
  }
  return (
    <>
      <p class="muted">Asked in {turn} of <AgentLink name={page.asker} />, which was answering:</p>
      {page.messages.map((message) => <Quote key={message.id} message={message} />)}
      {page.more > 0 ? <p class="muted">{`and ${page.more} more.`}</p> : null}
      {page.root ? <><p class="muted">All of it began with:</p><Quote message={page.root} /></> : null}
    </>
  );
}

/** What somebody wrote, and so it is shown. */
function Quote({ message }: { message: OriginMessage }): JSX.Element {
  return (
    <figure class="origin-quote">
      <figcaption>
        <AgentLink name={message.from} /> <span class="muted">wrote to</span> <AgentLink name={message.to} />, <Age sentence at={message.at} /> <Link href={placeOf(message)}>{`message ${message.id}`}</Link>
      </figcaption>
      <blockquote tabIndex={0}><Text text={saidIn(message)} /></blockquote>
    </figure>
  );
}

/** Whether it has been in sight. */
function useSeen(place: { current: HTMLElement | null }): boolean {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    if (seen || !place.current) return undefined;
    const watch = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true));
    watch.observe(place.current);
    return () => watch.disconnect();
  }, [seen]);
  return seen;
}
