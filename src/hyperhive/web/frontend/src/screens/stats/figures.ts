// Figures of turns and of spending, made ready to be drawn. Pure. Nothing is added that the hive did not say, and what
// is not known is undefined, never 0.

export type Window = "24h" | "7d" | "30d";
export const WINDOWS: readonly { value: Window; label: string; days: number }[] = [
  { value: "24h", label: "24 hours", days: 1 },
  { value: "7d", label: "7 days", days: 7 },
  { value: "30d", label: "30 days", days: 30 },
];

/** An agent's statistics as the hive gives them; a part that is missing was not computed. */
export interface Stats {
  turns?: { total: number; start: number; step: number; buckets: number[] };
  duration?: { p50_ms: number | null; p95_ms: number | null; avg_ms: number | null };
  context?: { avg: number | null; max: number | null };
  cost?: { total: number; buckets: number[]; input_tokens: number; output_tokens: number; cache_read_input_tokens: number; cache_creation_input_tokens: number };
  tools?: { total: number; top: { tool: string; calls: number }[] };
  wakes?: Record<string, number>;
  results?: Record<string, number>;
  [more: string]: unknown;
}

export interface Bar {
  readonly value: number;
  /** Below the bar, where there is room. */
  readonly label: string;
  /** From and to, unix seconds. */
  readonly from: number;
  readonly to: number;
}

const two = (n: number): string => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** The moment in the operator's time: "14:00" for steps below a day, else "Nov 3". */
export function bucketLabel(at: number, step: number): string {
  const date = new Date(at * 1000);
  return step < 86_400 ? `${two(date.getHours())}:${two(date.getMinutes())}` : `${MONTHS[date.getMonth()]} ${date.getDate()}`;
}

export function spanLabel(from: number, to: number): string {
  const word = (at: number): string => {
    const date = new Date(at * 1000);
    return `${MONTHS[date.getMonth()]} ${date.getDate()} ${two(date.getHours())}:${two(date.getMinutes())}`;
  };
  return `${word(from)} to ${word(to)}`;
}

export function barsOf(series: { start: number; step: number; buckets: readonly number[] }): Bar[] {
  return series.buckets.map((value, at) => {
    const from = series.start + at * series.step;
    return { value, label: bucketLabel(from, series.step), from, to: from + series.step };
  });
}

/** A price that may not be known: nothing paid for tokens that were used means that nobody knows the price. */
export function price(cost: number | undefined, tokens: number): number | undefined {
  return cost === undefined || (cost === 0 && tokens > 0) ? undefined : cost;
}

/** A top for the axis that is a round number at or above the largest value. */
export function niceTop(largest: number): number {
  if (largest <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 4, 6, 8, 10].map((step) => step * unit).find((step) => step >= largest) ?? 10 * unit;
}

export interface Part {
  readonly name: string;
  readonly value: number;
  /** Of the whole, 0 to 1. */
  readonly share: number;
}

/** A mix, largest first. */
export function partsOf(mix: Readonly<Record<string, number>>): Part[] {
  const entries = Object.entries(mix);
  const whole = entries.reduce((sum, [, value]) => sum + value, 0);
  return entries.map(([name, value]) => ({ name, value, share: whole ? value / whole : 0 })).sort((a, b) => b.value - a.value || a.name.localeCompare(b.name));
}

export interface DaySpent {
  readonly day: number;
  readonly agent: string;
  readonly tokens: number;
  readonly cost: number;
  readonly requests: number;
}

export interface Spending {
  /** When each day began, oldest first; days on which nothing was spent included. */
  readonly days: readonly number[];
  readonly agents: readonly { readonly name: string; readonly tokens: number; readonly cost: number | undefined; readonly requests: number; readonly byDay: ReadonlyMap<number, DaySpent> }[];
  readonly tokens: number;
  readonly cost: number | undefined;
  readonly requests: number;
}

const DAY = 86_400;

/** Agent by day (UTC), the dearest agent first. `until`: now. */
export function spendingOf(rows: readonly DaySpent[], count: number, until: number): Spending {
  const today = Math.floor(until / DAY) * DAY;
  const days = Array.from({ length: count }, (_, at) => today - (count - 1 - at) * DAY);
  const within = rows.filter((row) => row.day >= (days[0] ?? 0));
  const names = [...new Set(within.map((row) => row.agent))];
  const sum = (some: readonly DaySpent[]) => {
    const tokens = some.reduce((total, row) => total + row.tokens, 0);
    return { tokens, cost: price(some.reduce((total, row) => total + row.cost, 0), tokens), requests: some.reduce((total, row) => total + row.requests, 0) };
  };
  const agents = names
    .map((name) => {
      const own = within.filter((row) => row.agent === name);
      return { name, ...sum(own), byDay: new Map(own.map((row) => [row.day, row])) };
    })
    .sort((a, b) => b.tokens - a.tokens || a.name.localeCompare(b.name));
  return { days, agents, ...sum(within) };
}
