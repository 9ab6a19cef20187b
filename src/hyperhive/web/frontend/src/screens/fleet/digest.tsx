// "Since your last visit": what happened while nobody looked, in one line that opens.
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { request } from "../../lib/api";
import { clock, duration, money, plural, tokens } from "../../lib/format";
import type { Schemas } from "../../lib/protocol";
import { Link } from "../../lib/router";
import { settings } from "../../lib/settings";
import { lastVisit } from "../../lib/visit";
import { Age, AgentLink, Icon, IconButton, Text, type IconName } from "../../ui";
import "./digest.css";

const KIND: Record<string, IconName> = { answered: "question", crashed: "alert", dead: "dead", decided: "audit", deployed: "approvals", failed: "alert" };

export function Digest(): VNode | null {
  const [page, setPage] = useState<Schemas["DigestPage"]>();
  const [open, setOpen] = useState(false);
  const from = lastVisit.value;
  const wanted = from > settings.digestRead.value;
  useEffect(() => {
    if (!wanted) return;
    const stop = new AbortController();
    // Nice to have: where it fails, the fleet is there all the same.
    request({ cmd: "digest", since: from }, { signal: stop.signal }).then(setPage, () => undefined);
    return () => stop.abort();
  }, [from, wanted]);
  if (!page || !wanted) return null;
  const parts = [
    page.finished > 0 && plural(page.finished, "turn"),
    page.failed > 0 && `${page.failed} failed`,
    page.answered > 0 && `${page.answered} answered`,
    page.deployed > 0 && `${page.deployed} deployed`,
    page.messages > 0 && plural(page.messages, "message"),
    page.tokens > 0 && `${tokens(page.tokens)} tokens`,
    page.cost !== undefined && page.cost > 0 && money(page.cost),
  ].filter((each): each is string => typeof each === "string");
  const dismiss = (): void => void (settings.digestRead.value = from);
  return (
    <section class="digest" aria-label="Since your last visit">
      <div class="digest-line">
        <Icon name="clock" />
        <button type="button" class="digest-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
          <strong>Since your last visit</strong> <span class="muted">{duration(Date.now() / 1000 - page.since)} ago:</span> {parts.length > 0 ? parts.join(" · ") : "nothing happened"}
          <Icon name={open ? "up" : "down"} size={12} />
        </button>
        <IconButton icon="close" label="Dismiss" onClick={dismiss} />
      </div>
      {open && (
        <div class="digest-body">
          <ol class="digest-items">
            {folded(page.items).map(({ item, times }, i) => (
              <li key={i} class={item.kind === "failed" || item.kind === "crashed" || item.kind === "dead" ? "bad" : ""}>
                <Icon name={KIND[item.kind] ?? "dot"} size={14} />
                <span class="muted">{clock(item.at)}</span>
                {item.agent && <AgentLink name={item.agent} />}
                <ItemText item={item} />
                {times > 1 && <span class="muted">×{times}</span>}
                <Age at={item.at} />
              </li>
            ))}
          </ol>
          {page.agents.length > 0 && (
            <table class="table digest-agents" aria-label="By agent">
              <thead>
                <tr>
                  <th scope="col">Agent</th>
                  <th scope="col" class="num">
                    Turns
                  </th>
                  <th scope="col" class="num">
                    Failed
                  </th>
                  <th scope="col" class="num">
                    Tokens
                  </th>
                </tr>
              </thead>
              <tbody>
                {page.agents.map((agent) => (
                  <tr key={agent.name}>
                    <td>
                      <AgentLink name={agent.name} />
                    </td>
                    <td class="num">{agent.turns}</td>
                    <td class="num">{agent.failed > 0 ? agent.failed : "–"}</td>
                    <td class="num">{tokens(agent.tokens)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
      )}
    </section>
  );
}

type Item = Schemas["DigestItem"];

/** What says the same is said once, with how often; the newest stands for all. */
function folded(items: readonly Item[]): { item: Item; times: number }[] {
  const found = new Map<string, { item: Item; times: number }>();
  for (const item of items) {
    const key = `${item.kind} ${item.agent ?? ""} ${item.text}`;
    const same = found.get(key);
    if (same) same.times += 1;
    else found.set(key, { item, times: 1 });
  }
  return [...found.values()];
}

function ItemText({ item }: { item: Item }): VNode {
  const text = <Text text={item.text} line />;
  const { ref, agent } = item;
  const to =
    ref === undefined ? undefined
    : item.kind === "failed" && agent ? `/agents/${agent}/t/${ref}`
    : item.kind === "answered" ? `/questions/${ref}`
    : item.kind === "dead" ? "/dead"
    : item.kind === "decided" || item.kind === "deployed" ? `/approvals/${ref}`
    : undefined;
  return to ? (
    <Link class="truncate digest-text" href={to}>
      {text}
    </Link>
  ) : (
    <span class="truncate digest-text">{text}</span>
  );
}
