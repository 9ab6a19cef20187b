// One agent's turns over 24 hours, 7 or 30 days. A bar leads to the turns that it counts.
import { request } from "../../lib/api";
import { durationLong, money, tokens } from "../../lib/format";
import { useLoad } from "../../lib/load";
import { Link } from "../../lib/router";
import { Empty, ErrorBox, Loading, Page, Section, Segmented, Tabs } from "../../ui";
import { Bars, Figure, Mix } from "./charts";
import { barsOf, partsOf, price, WINDOWS, type Bar, type Stats, type Window } from "./figures";

const RESULT_WORDS: Readonly<Record<string, string>> = { ok: "ok", failed: "failed", prompt_too_long: "prompt too long", needs_login: "needs login", limited: "limited", stuck: "stuck", cancelled: "cancelled", crashed: "crashed" };
const COMPONENTS: readonly (readonly [keyof NonNullable<Stats["cost"]>, string])[] = [
  ["input_tokens", "input"],
  ["cache_read_input_tokens", "read from the cache"],
  ["cache_creation_input_tokens", "written to the cache"],
  ["output_tokens", "output"],
];

export function AgentStats({ name, window, choose }: { name: string; window: Window; choose(window: Window): void }) {
  const loaded = useLoad((stop) => request({ cmd: "stats", name, window }, { signal: stop }).then((reply) => reply.stats as Stats), [name, window]);
  const page = `/agents/${encodeURIComponent(name)}`;
  const stats = loaded.value;
  return (
    <Page
      title={`Statistics of ${name}`}
      heading={
        <>
          <Link href={page}>{name}</Link> <span class="muted">statistics</span>
        </>
      }
      actions={<Segmented label="Window" options={WINDOWS.map(({ value, label }) => ({ value, label }))} value={window} onChange={choose} />}
      tabs={
        <Tabs
          label={`Views of ${name}`}
          current="stats"
          tabs={[
            { id: "live", label: "Live", href: page },
            { id: "turns", label: "Turns", href: `${page}/turns` },
            { id: "mail", label: "Mail", href: `${page}/mail` },
            { id: "stats", label: "Stats", href: `${page}/stats` },
            { id: "config", label: "Config", href: `/config/${encodeURIComponent(name)}` },
          ]}
        />
      }
    >
      {loaded.error && <ErrorBox error={loaded.error} retry={loaded.reload} />}
      {!stats ? (
        !loaded.error && <Loading lines={8} />
      ) : (stats.turns?.total ?? 0) === 0 ? (
        <Empty title="No turn ended in this time" icon="chart">
          Choose a longer window, or write to the agent to start one.
        </Empty>
      ) : (
        <div class={loaded.loading ? "stats stale" : "stats"}>
          <Figures stats={stats} />
          <Charts name={name} stats={stats} />
        </div>
      )}
    </Page>
  );
}

const seconds = (ms: number | null | undefined): string => (ms === null || ms === undefined ? "–" : ms < 10_000 ? `${(ms / 1000).toFixed(1)}s` : durationLong(ms / 1000));

function Figures({ stats }: { stats: Stats }) {
  const { turns, duration, context, cost, tools, results } = stats;
  const hours = turns ? (turns.step * turns.buckets.length) / 3600 : 0;
  const used = cost ? cost.input_tokens + cost.output_tokens + cost.cache_read_input_tokens + cost.cache_creation_input_tokens : 0;
  const failed = Object.entries(results ?? {}).reduce((sum, [kind, count]) => (kind === "ok" ? sum : sum + count), 0);
  return (
    <dl class="figures">
      <Figure name="Turns" title="Turns that ended in this time">
        {turns?.total ?? "–"}
        {turns && hours > 0 && <small>{(turns.total / hours).toFixed(turns.total / hours < 10 ? 1 : 0)} an hour</small>}
      </Figure>
      <Figure name="Not ok" title="Turns that did not end well">
        {failed}
        {turns && turns.total > 0 && <small>{Math.round((failed / turns.total) * 100)} %</small>}
      </Figure>
      <Figure name="Median time" title="Half of the turns took no longer">
        {seconds(duration?.p50_ms)}
        <small>avg {seconds(duration?.avg_ms)}</small>
      </Figure>
      <Figure name="p95 time" title="19 of 20 turns took no longer">{seconds(duration?.p95_ms)}</Figure>
      <Figure name="Context, max" title="The most tokens that one turn's last request put before the model">
        {tokens(context?.max)}
        <small>avg {tokens(context?.avg)}</small>
      </Figure>
      <Figure name="Tokens" title="All tokens of these turns">
        {cost ? tokens(used) : "–"}
      </Figure>
      <Figure name="Cost" title="By list price; a dash where the price is not known">{money(price(cost?.total, used))}</Figure>
      <Figure name="Tool calls" title="Calls in these turns">{tools?.total ?? "–"}</Figure>
    </dl>
  );
}

function Charts({ name, stats }: { name: string; stats: Stats }) {
  const { turns, cost, tools, wakes, results } = stats;
  const listed = `/agents/${encodeURIComponent(name)}/turns`;
  const hrefOf = (bar: Bar): string => `${listed}?since=${bar.from}&until=${bar.to}`;
  const count = (n: number): string => (Number.isInteger(n) ? String(n) : n.toFixed(1));
  const mix = cost && Object.fromEntries(COMPONENTS.map(([key, word]) => [word, cost[key] as number]));
  return (
    <div class="stats-grid">
      {turns && (
        <Section title="Turns">
          <Bars label="Turns that ended, over time" bars={barsOf(turns)} format={count} whole hrefOf={hrefOf} />
        </Section>
      )}
      {turns && cost && cost.total > 0 && (
        <Section title="Cost">
          <Bars label="Cost by list price, over time" bars={barsOf({ ...turns, buckets: cost.buckets })} format={money} hrefOf={hrefOf} />
        </Section>
      )}
      {results && (
        <Section title="How turns ended">
          <Mix label="How turns ended" parts={partsOf(results)} toneOf={(kind) => (kind === "ok" ? "ok" : "failed")} nameOf={(kind) => RESULT_WORDS[kind] ?? kind} hrefOf={(kind) => (kind === "ok" ? listed : `${listed}?failed=1`)} />
        </Section>
      )}
      {wakes && (
        <Section title="What woke it">
          <Mix label="Whose mail started turns" parts={partsOf(wakes)} />
        </Section>
      )}
      {mix && (
        <Section title="Tokens by kind">
          <Mix label="Tokens by kind" parts={partsOf(mix)} format={(n) => tokens(n)} />
        </Section>
      )}
      {tools && (
        <Section title="Tools called most">
          <Mix label="Tools called most" parts={partsOf(Object.fromEntries(tools.top.map((each) => [each.tool, each.calls])))} nameOf={(tool) => tool.replace(/^mcp__(.+?)__/, "$1.")} />
        </Section>
      )}
    </div>
  );
}
