// Everything that waits for the operator, in one list, and answered right there: questions, approvals, logins, failures.
import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { ScreenProps } from "../../app/routes";
import { useActions } from "../../lib/keys";
import type { NeedItem } from "../../lib/hive-state";
import { navigate, setQuery } from "../../lib/router";
import { container, needsYou } from "../../lib/store";
import { Age, AgentLink, Button, Card, Empty, Icon, Page, Section, type IconName } from "../../ui";
import { ApprovalRow } from "../approvals/row";
import { QuestionCard } from "../questions/card";
import "./needs-you.css";

const SECTIONS: readonly { kind: NeedItem["kind"]; title: string }[] = [
  { kind: "question", title: "Questions" },
  { kind: "approval", title: "Approvals" },
  { kind: "login", title: "Logins" },
  { kind: "failed", title: "Failed" },
];

/** The page that one item opens. */
function urlOf(item: NeedItem): string {
  if (item.kind === "question") return `/questions/${item.question.id}`;
  if (item.kind === "approval") return `/approvals/${item.approval.id}`;
  return `/agents/${encodeURIComponent(item.agent)}`;
}

export default function Screen({ query }: ScreenProps): VNode {
  const items = useOrder(needsYou.value);
  const current = items.find((item) => item.key === query["at"]) ?? items[0];
  const move = (by: number): void => {
    const next = items[Math.max(0, Math.min(items.length - 1, items.findIndex((item) => item.key === current?.key) + by))];
    if (!next) return;
    setQuery({ at: next.key });
    document.getElementById(`need-${next.key}`)?.scrollIntoView({ block: "nearest" });
  };
  useActions(
    [
      { id: "needs:down", title: "Next", keys: "j", section: "Needs you", hidden: true, run: () => move(1) },
      { id: "needs:up", title: "Previous", keys: "k", section: "Needs you", hidden: true, run: () => move(-1) },
      { id: "needs:open", title: "Open", keys: "enter", section: "Needs you", hidden: true, when: () => current !== undefined, run: () => navigate(urlOf(current!)) },
      { id: "needs:reply", title: "Answer", keys: "r", section: "Needs you", hidden: true, when: () => current?.kind === "question", run: () => document.querySelector<HTMLElement>(`[id="need-${current!.key}"] :is(textarea,input,button)`)?.focus() },
    ],
    [items, current?.key],
  );
  return (
    <Page title="Needs you" lead={items.length > 0 ? undefined : "Agents that wait for you show up here."}>
      {items.length === 0 ? (
        <Empty title="Nobody waits for you" icon="check">
          <p>Questions, approvals, logins and failures come here the moment they happen, and into the tab's title.</p>
        </Empty>
      ) : (
        SECTIONS.map(({ kind, title }) => {
          const those = items.filter((item) => item.kind === kind);
          if (those.length === 0) return null;
          return (
            <Section key={kind} title={title} count={those.length}>
              <ul class="needs">
                {those.map((item) => (
                  <li key={item.key} id={`need-${item.key}`} class={item.key === current?.key ? "need current" : "need"}>
                    <Item item={item} active={item.key === current?.key} />
                  </li>
                ))}
              </ul>
            </Section>
          );
        })
      )}
    </Page>
  );
}

function Item({ item, active }: { item: NeedItem; active: boolean }): VNode {
  switch (item.kind) {
    case "question":
      return <QuestionCard question={item.question} active={active} linked />;
    case "approval":
      return <ApprovalRow approval={item.approval} current={active} />;
    case "login":
      return (
        <Plain icon="key" item={item} what="is not logged in" action={<Button icon="key" onClick={() => navigate(`${urlOf(item)}?login=1`)}>Log in</Button>} />
      );
    case "failed":
      return <Plain icon="alert" item={item} what={container(item.agent).value?.waiting_reason === "backoff" ? "keeps failing; it waits before it tries again" : "has failed"} action={<Button icon="arrow" onClick={() => navigate(`${urlOf(item)}/turns?failed=1`)}>See why</Button>} />;
  }
}

function Plain({ icon, item, what, action }: { icon: IconName; item: NeedItem; what: string; action: VNode }): VNode {
  return (
    <Card tone={item.kind === "failed" ? "failed" : "needs"} class="need-plain">
      <Icon name={icon} />
      <span>
        <AgentLink name={item.agent} /> {what} <Age sentence at={item.at} />
      </span>
      {action}
    </Card>
  );
}

/** New items come at the end of what is shown: nothing moves under the pointer or the caret. A fresh visit sorts anew. */
function useOrder(items: readonly NeedItem[]): readonly NeedItem[] {
  const order = useRef<string[]>([]);
  const byKey = new Map(items.map((item) => [item.key, item]));
  const kept = order.current.filter((key) => byKey.has(key));
  const keys = [...kept, ...items.map((item) => item.key).filter((key) => !kept.includes(key))];
  useEffect(() => {
    order.current = keys;
  });
  return keys.map((key) => byKey.get(key)!);
}
