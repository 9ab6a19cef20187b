// What the hive spent, by agent and day (UTC). The list, its rows and its sums are the same figures.
import { useMemo } from "preact/hooks";
import { request } from "../../lib/api";
import { money, plural, tokens } from "../../lib/format";
import { useLoad } from "../../lib/load";
import { Link } from "../../lib/router";
import { now } from "../../lib/time";
import { Empty, ErrorBox, Loading, Page, Progress, Section, Segmented } from "../../ui";
import { Figure, Stacks, type Stack } from "./charts";
import { bucketLabel, price, spendingOf, WINDOWS, type DaySpent, type Spending, type Window } from "./figures";

const COLOURS = 7;
const DAY = 86_400;

interface Limit {
  name: string;
  limits: readonly { setting: string; limit: number; spent: number; until: number }[];
  refused?: string | undefined;
}

export function HiveStats({ window, choose }: { window: Window; choose(window: Window): void }) {
  const days = WINDOWS.find((each) => each.value === window)?.days ?? 7;
  const loaded = useLoad((stop) => request({ cmd: "budget", days }, { signal: stop }), [days]);
  const spending = useMemo(() => loaded.value && spendingOf((loaded.value.days ?? []) as DaySpent[], days, now.peek()), [loaded.value, days]);
  return (
    <Page
      title="Statistics"
      lead="What the hive spent, by agent and day (UTC)"
      actions={<Segmented label="Window" options={WINDOWS.map(({ value, label }) => ({ value, label: value === "24h" ? "Today" : label }))} value={window} onChange={choose} />}
    >
      {loaded.error && <ErrorBox error={loaded.error} retry={loaded.reload} />}
      {!spending ? (
        !loaded.error && <Loading lines={8} />
      ) : spending.agents.length === 0 ? (
        <Empty title="Nothing was spent in this time" icon="wallet" command="hyperhive budget">
          It is counted as agents use their models.
        </Empty>
      ) : (
        <div class={loaded.loading ? "stats stale" : "stats"}>
          <dl class="figures">
            <Figure name="Tokens" title="All tokens of all agents in this time">{tokens(spending.tokens)}</Figure>
            <Figure name="Cost" title="By list price; a dash where the price is not known">{money(spending.cost)}</Figure>
            <Figure name="Requests" title="Requests to models">{spending.requests}</Figure>
            <Figure name="Agents" title="Agents that spent anything">{spending.agents.length}</Figure>
          </dl>
          {days > 1 && (
            <Section title="Tokens by day">
              <Stacks label="Tokens by day and agent" stacks={stacksOf(spending)} format={(n) => tokens(n)} />
              <Legend spending={spending} />
            </Section>
          )}
          <Limits spent={(loaded.value?.spent ?? []) as Limit[]} />
          <Section title="By agent and day">
            <Matrix spending={spending} />
          </Section>
        </div>
      )}
    </Page>
  );
}

const turnsHref = (agent: string, day: number): string => `/agents/${encodeURIComponent(agent)}/turns?since=${day}&until=${day + DAY}`;
/** Days are UTC's; the label is of their noon, so that it is the same day everywhere but at the date line. */
const dayLabel = (day: number): string => bucketLabel(day + DAY / 2, DAY);

function stacksOf(spending: Spending): Stack[] {
  return spending.days.map((day) => ({
    from: day,
    to: day + DAY,
    label: dayLabel(day),
    parts: spending.agents.flatMap((agent, at) => {
      const row = agent.byDay.get(day);
      return row && row.tokens > 0 ? [{ name: agent.name, value: row.tokens, colour: Math.min(at, COLOURS), href: turnsHref(agent.name, day) }] : [];
    }),
  }));
}

function Legend({ spending }: { spending: Spending }) {
  const named = spending.agents.slice(0, COLOURS);
  return (
    <ul class="legend" aria-label="Colours">
      {named.map((agent, at) => (
        <li key={agent.name}>
          <span class={`swatch colour-${at}`} aria-hidden="true" />
          {agent.name}
        </li>
      ))}
      {spending.agents.length > COLOURS && (
        <li>
          <span class={`swatch colour-${COLOURS}`} aria-hidden="true" />
          {plural(spending.agents.length - COLOURS, "other")}
        </li>
      )}
    </ul>
  );
}

function Limits({ spent }: { spent: readonly Limit[] }) {
  const limited = spent.filter((each) => each.limits.length > 0);
  if (limited.length === 0) return null;
  return (
    <Section title="Budgets in force">
      <ul class="budget-list">
        {limited.flatMap((each) =>
          each.limits.map((limit) => {
            const amount = (x: number): string => (limit.setting.startsWith("cost") ? money(x) : tokens(x));
            const share = limit.limit > 0 ? limit.spent / limit.limit : 1;
            return (
              <li key={`${each.name}-${limit.setting}`}>
                <b>{each.name}</b>
                <span class="muted">{limit.setting.replaceAll("_", " ")}</span>
                <Progress value={share} label={`${Math.round(share * 100)} % of ${amount(limit.limit)} used`} />
                <span class="mix-value">
                  {amount(limit.spent)} of {amount(limit.limit)}
                </span>
              </li>
            );
          }),
        )}
      </ul>
    </Section>
  );
}

function Matrix({ spending }: { spending: Spending }) {
  const days = [...spending.days].reverse();
  return (
    <div class="table-scroll matrix" tabIndex={0} role="region" aria-label="Tokens by agent and day">
      <table class="table">
        <thead>
          <tr>
            <th scope="col">Agent</th>
            <th scope="col" class="num">Tokens</th>
            <th scope="col" class="num">Cost</th>
            {days.map((day) => (
              <th key={day} scope="col" class="num">
                {dayLabel(day)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {spending.agents.map((agent) => (
            <tr key={agent.name}>
              <th scope="row">
                <Link href={`/agents/${encodeURIComponent(agent.name)}/stats`}>{agent.name}</Link>
              </th>
              <td class="num" title={agent.tokens.toLocaleString("en")}>{tokens(agent.tokens)}</td>
              <td class="num">{money(agent.cost)}</td>
              {days.map((day) => {
                const row = agent.byDay.get(day);
                return (
                  <td key={day} class="num">
                    {row ? (
                      <Link href={turnsHref(agent.name, day)} title={`${row.tokens.toLocaleString("en")} tokens, ${money(price(row.cost, row.tokens))}, ${row.requests} requests`}>
                        {tokens(row.tokens)}
                      </Link>
                    ) : (
                      <span class="muted">·</span>
                    )}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">All</th>
            <td class="num">{tokens(spending.tokens)}</td>
            <td class="num">{money(spending.cost)}</td>
            {days.map((day) => (
              <td key={day} class="num">
                {tokens(spending.agents.reduce((sum, agent) => sum + (agent.byDay.get(day)?.tokens ?? 0), 0))}
              </td>
            ))}
          </tr>
        </tfoot>
      </table>
    </div>
  );
}
