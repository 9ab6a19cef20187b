// The way around: a column on a wide window, four tabs at the bottom of a phone. Counts are live.
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { plural } from "../lib/format";
import { Link, place } from "../lib/router";
import { containers, facts, inbox, needsYou } from "../lib/store";
import { Icon, IconButton, type IconName } from "../ui";
import { openPalette } from "./palette";

interface Entry {
  id: string;
  title: string;
  href: string;
  icon: IconName;
  count?: () => number;
  tone?: "needs" | "failed";
}

const need = (kind: string) => (): number => needsYou.value.filter((each) => each.kind === kind).length;

export const GROUPS: readonly { title?: string; entries: readonly Entry[] }[] = [
  {
    entries: [
      { id: "needs-you", title: "Needs you", href: "/needs-you", icon: "bell", count: () => needsYou.value.length, tone: "needs" },
      { id: "agents", title: "Agents", href: "/", icon: "agents", count: () => containers.value.length },
    ],
  },
  {
    title: "Decide",
    entries: [
      { id: "approvals", title: "Approvals", href: "/approvals", icon: "approvals", count: need("approval"), tone: "needs" },
      { id: "questions", title: "Questions", href: "/questions", icon: "question", count: need("question"), tone: "needs" },
      { id: "inbox", title: "Inbox", href: "/inbox", icon: "inbox", count: () => inbox.value.filter((each) => each.done_at === undefined).length },
    ],
  },
  {
    title: "Look",
    entries: [
      { id: "messages", title: "Messages", href: "/messages", icon: "message" },
      { id: "search", title: "Search", href: "/search", icon: "search" },
      { id: "stats", title: "Stats", href: "/stats", icon: "chart" },
      { id: "logs", title: "Logs", href: "/logs", icon: "logs" },
      { id: "audit", title: "Audit", href: "/audit", icon: "audit" },
    ],
  },
  {
    title: "Hive",
    entries: [
      { id: "dead", title: "Dead letters", href: "/dead", icon: "dead", count: () => facts.value?.dead ?? 0, tone: "failed" },
      { id: "meta", title: "Inputs", href: "/meta", icon: "meta" },
      { id: "sessions", title: "Sessions", href: "/sessions", icon: "session" },
      { id: "settings", title: "Settings", href: "/settings", icon: "gear" },
    ],
  },
];

function NavLink({ entry, current }: { entry: Entry; current: string }): VNode {
  const count = entry.count?.() ?? 0;
  return (
    <Link class="nav-link" href={entry.href} aria-current={entry.id === current ? "page" : undefined}>
      <Icon name={entry.icon} />
      <span class="nav-title">{entry.title}</span>
      {count > 0 && (
        <span class={`nav-count${entry.tone ? ` tone-${entry.tone}` : ""}`}>
          {count}
          <span class="sr">{entry.tone ? " waiting" : ""}</span>
        </span>
      )}
    </Link>
  );
}

export function Sidebar({ current }: { current: string }): VNode {
  return (
    <aside class="sidebar">
      <div class="brand">
        <svg width="20" height="20" viewBox="0 0 32 32" aria-hidden="true">
          <path class="brand-cell" d="M16 2.5 27.7 9.25v13.5L16 29.5 4.3 22.75V9.25z" />
          <path class="brand-hole" d="M16 9.5 21.600 12.750v6.500L16 22.500l-5.600-3.250v-6.500z" />
        </svg>
        <span>hive</span>
        <button type="button" class="nav-search" onClick={openPalette} title="Search and commands">
          <Icon name="search" size={14} />
          <span class="sr">Search and commands </span>
          <kbd>{/Mac/.test(navigator.userAgent) ? "⌘K" : "Ctrl K"}</kbd>
        </button>
      </div>
      <nav aria-label="Main">
        {GROUPS.map((group, i) => (
          <div key={i} class="nav-group">
            {group.title && <p class="nav-heading">{group.title}</p>}
            {group.entries.map((entry) => (
              <NavLink key={entry.id} entry={entry} current={current} />
            ))}
          </div>
        ))}
      </nav>
      <HiveLine />
    </aside>
  );
}

function HiveLine(): VNode | null {
  const hive = facts.value;
  if (!hive) return null;
  return (
    <p class="hive-line" title={`Runtime ${hive.runtime}, revision ${hive.revision}`}>
      <span class="hive-runtime">{hive.runtime}</span>
      <span class="mono">{hive.revision.slice(0, 12)}</span>
    </p>
  );
}

const TABS = ["needs-you", "agents", "messages"];

/** The phone's bottom bar; the rest is behind "More". */
export function BottomTabs({ current }: { current: string }): VNode {
  const [more, setMore] = useState(false);
  const { path } = place.value;
  useEffect(() => setMore(false), [path]);
  const entries = GROUPS.flatMap((group) => group.entries);
  const tabs = TABS.map((id) => entries.find((entry) => entry.id === id)!);
  return (
    <>
      {more && (
        <div class="more-sheet" role="dialog" aria-label="More">
          <header class="dialog-head">
            <h2>More</h2>
            <IconButton icon="close" label="Close" onClick={() => setMore(false)} />
          </header>
          <button type="button" class="nav-link" onClick={() => (setMore(false), openPalette())}>
            <Icon name="bolt" />
            <span class="nav-title">Commands</span>
          </button>
          {entries
            .filter((entry) => !TABS.includes(entry.id))
            .map((entry) => (
              <NavLink key={entry.id} entry={entry} current={current} />
            ))}
        </div>
      )}
      <nav class="bottom-tabs" aria-label="Main">
        {tabs.map((entry) => {
          const count = entry.tone ? (entry.count?.() ?? 0) : 0;
          return (
            <Link key={entry.id} class="bottom-tab" href={entry.href} aria-current={!more && entry.id === current ? "page" : undefined}>
              <span class="bottom-icon">
                <Icon name={entry.icon} size={20} />
                {count > 0 && <span class="bottom-count">{count > 99 ? "99+" : count}</span>}
              </span>
              {entry.title}
              {count > 0 && <span class="sr">, {plural(count, "item")}</span>}
            </Link>
          );
        })}
        <button type="button" class={`bottom-tab${TABS.includes(current) ? "" : " here"}`} aria-expanded={more} onClick={() => setMore(!more)}>
          <span class="bottom-icon">
            <Icon name="menu" size={20} />
          </span>
          More
        </button>
      </nav>
    </>
  );
}
