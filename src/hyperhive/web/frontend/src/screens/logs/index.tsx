/* The log of the hive, or of one agent: filtered, followed while one is at its end, and around any moment by its URL. */

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ScreenProps } from "../../app/routes";
import { request } from "../../lib/api";
import { absolute, clock } from "../../lib/format";
import { useActions } from "../../lib/keys";
import { useLoad } from "../../lib/load";
import { Link, navigate, setQuery } from "../../lib/router";
import { settings } from "../../lib/settings";
import { agentNames } from "../../lib/store";
import { Banner, Button, Empty, ErrorBox, IconButton, Loading, Page, Select, Switch, Text, TextInput, toast } from "../../ui";
import { LEVELS, type Level, type LogLine, matcher, newLines, parseLine } from "./lines";
import "./logs.css";

const LINES = 1000;
const POLL_MS = 2000;
const AROUND = 60;

export default function Screen({ params, query }: ScreenProps): JSX.Element {
  return <Log key={params["name"] ?? ""} name={params["name"]} query={query} />;
}

function Log({ name, query }: { name: string | undefined; query: ScreenProps["query"] }): JSX.Element {
  const since = Number(query["since"]) || undefined;
  const until = Number(query["until"]) || undefined;
  const [follow, setFollow] = useState(until === undefined);
  const [fresh, setFresh] = useState(0);
  const scroll = useRef<HTMLDivElement>(null);
  const known = useRef<readonly string[]>([]);
  const loaded = useLoad(
    async (signal) => (await request({ cmd: "logs", lines: LINES, ...(name ? { name } : {}), ...(since ? { since } : {}), ...(until ? { until } : {}) }, { signal })).lines,
    [name, since, until],
  );
  const live = until === undefined;
  useEffect(() => {
    if (!live) return undefined;
    const timer = setInterval(() => document.visibilityState === "visible" && loaded.reload(), POLL_MS);
    return () => clearInterval(timer);
  }, [live, loaded.reload]);

  const level: Level = LEVELS.find((one) => one === query["level"]) ?? "debug";
  const words = query["q"] ?? "";
  const all = useMemo(() => (loaded.value ?? []).map(parseLine), [loaded.value]);
  const shown = useMemo(() => all.filter(matcher({ level, words })), [all, level, words]);
  useEffect(() => {
    const count = newLines(known.current, loaded.value ?? []);
    known.current = loaded.value ?? [];
    if (follow) scroll.current?.scrollTo({ top: scroll.current.scrollHeight });
    else if (count > 0) setFresh((before) => before + count);
  }, [loaded.value]);
  const toEnd = (): void => {
    scroll.current?.scrollTo({ top: scroll.current.scrollHeight });
    setFresh(0);
    setFollow(live);
  };
  useActions([
    { id: "logs.end", title: "To the end of the log", section: "Log", keys: "shift+g", run: toEnd },
    { id: "logs.pause", title: follow ? "Stop following the log" : "Follow the log", section: "Log", keys: "p", run: () => (follow ? setFollow(false) : toEnd()) },
  ], [follow, live]);
  return (
    <Page
      title={name ? `Log of ${name}` : "Log of the hive"}
      wide
      lead={since || until ? <>{since ? `from ${absolute(since)}` : ""} {until ? `to ${absolute(until)}` : ""} <Link href={name ? `/logs/${name}` : "/logs"}>the newest</Link></> : undefined}
      actions={
        <Select
          aria-label="Whose log"
          options={[{ value: "", label: "the hive" }, ...agentNames.value.map((one) => ({ value: one, label: one }))]}
          value={name ?? ""}
          onValue={(one) => navigate(one ? `/logs/${encodeURIComponent(one)}` : "/logs")}
        />
      }
    >
      <div class="logs">
        <Filters level={level} words={words} shown={shown.length} all={all.length} raw={shown} />
        {loaded.error ? <ErrorBox error={loaded.error} retry={loaded.reload} /> : null}
        {loaded.value === undefined ? (loaded.error ? null : <Loading lines={12} />) : all.length === 0 ? (
          <Empty title={since || until ? "Nothing was said then" : "Nothing was said yet"} icon="logs" command={name ? `hyperhive logs ${name} -f` : "hyperhive logs -f"} />
        ) : (
          <div
            ref={scroll}
            class={`log${settings.wrap.value ? " wrap" : ""}`}
            tabIndex={0}
            role="log"
            aria-live="off"
            aria-label={name ? `Log of ${name}` : "Log of the hive"}
            onScroll={(event) => {
              const box = event.currentTarget;
              const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
              setFollow(atEnd && live);
              if (atEnd) setFresh(0);
            }}
          >
            {shown.map((line, index) => <Line key={index} line={line} name={name} />)}
          </div>
        )}
        <p class="log-foot muted">
          {live ? (follow ? "Following." : "Not following: you are not at the end.") : "A moment of the past: it does not change."}
          {fresh > 0 ? <Button small kind="primary" icon="down" onClick={toEnd}>{`${fresh} new`}</Button> : null}
        </p>
        {all.length >= LINES ? <Banner tone="muted" icon="info">{`These are the last ${LINES} lines. `}{all[0]?.at ? <Link href={`?until=${all[0].at}`}>What came before</Link> : null}</Banner> : null}
      </div>
    </Page>
  );
}

function Filters({ level, words, shown, all, raw }: { level: Level; words: string; shown: number; all: number; raw: readonly LogLine[] }): JSX.Element {
  const copy = (): void => {
    void navigator.clipboard?.writeText(raw.map((line) => line.raw).join("\n")).then(() => toast(`${raw.length} lines copied`));
  };
  return (
    <div class="log-filters" role="search">
      <TextInput type="search" aria-label="Filter" placeholder="Words, !without, /expression/" value={words} onValue={(q) => setQuery({ q: q || undefined })} />
      <Select aria-label="Level" options={LEVELS.map((one) => ({ value: one, label: one === "debug" ? "any level" : `${one} and up` }))} value={level} onValue={(one) => setQuery({ level: one === "debug" ? undefined : one })} />
      <Switch checked={settings.wrap.value} label="Wrap" onChange={(wrap) => (settings.wrap.value = wrap)} />
      <span class="muted" role="status">{shown === all ? `${all} lines` : `${shown} of ${all} lines`}</span>
      <IconButton icon="copy" label="Copy these lines" onClick={copy} />
      <IconButton icon="link" label="Copy the link to this view" onClick={() => void navigator.clipboard?.writeText(location.href).then(() => toast("Link copied"))} />
    </div>
  );
}

function Line({ line, name }: { line: LogLine; name: string | undefined }): JSX.Element {
  const { at } = line;
  return (
    <div class={`log-line ${line.level}`}>
      {at === undefined ? null : (
        <Link class="log-at" tabIndex={-1} title={`${absolute(at)}: the minute around it`} href={`/logs${name ? `/${encodeURIComponent(name)}` : ""}?since=${at - AROUND}&until=${at + AROUND}`}>{clock(at)}</Link>
      )}
      {line.level === "none" ? null : <span class="log-level">{line.level}</span>}
      <span class="log-text"><Text text={line.text} /></span>
    </div>
  );
}
