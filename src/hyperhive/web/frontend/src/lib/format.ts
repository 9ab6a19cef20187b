// Numbers, times and ids as the operator reads them. Pure.

/** A span of seconds in one unit: "12s", "5m", "3h", "2d". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86_400)}d`;
}

/** A span in two units where that says more: "1m 05s", "2h 10m". */
export function durationLong(seconds: number): string {
  if (seconds >= 0.05 && seconds < 0.95) return `${seconds.toFixed(1)}s`;
  const s = Math.max(0, Math.round(seconds));
  const two = (n: number): string => String(n).padStart(2, "0");
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
  return `${Math.floor(s / 86_400)}d ${Math.floor((s % 86_400) / 3600)}h`;
}

/** The moment with its zone, for titles. */
export function absolute(at: number): string {
  const date = new Date(at * 1000);
  const two = (n: number): string => String(n).padStart(2, "0");
  const offset = -date.getTimezoneOffset();
  const zone = offset === 0 ? "UTC" : `${offset < 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(at)} ${zone}`;
}

/** The time of day, "14:03:27". */
export function clock(at: number): string {
  const date = new Date(at * 1000);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}

/** The moment in few characters: the time of day, and before today the date too: "11-17 14:03". */
export function moment(at: number, now: number): string {
  const [date, today] = [new Date(at * 1000), new Date(now * 1000)];
  if (date.toDateString() === today.toDateString()) return clock(at);
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

function scaled(n: number, units: readonly string[], step: number): string {
  let value = n;
  let unit = 0;
  while (Math.abs(value) >= step && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${trim(value.toFixed(digits))}${units[unit]}`;
}

const trim = (text: string): string => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

/** Tokens: "812", "12.3k", "1.25M"; "–" where unknown. */
export function tokens(n: number | undefined | null): string {
  return n === undefined || n === null ? "–" : scaled(n, ["", "k", "M", "G"], 1000);
}

/** Bytes: "812 B", "12.3 KB"; "–" where unknown. */
export function bytes(n: number | undefined | null): string {
  return n === undefined || n === null ? "–" : scaled(n, [" B", " KB", " MB", " GB", " TB"], 1024);
}

/** US dollars; an unknown price is "–", never 0. */
export function money(x: number | undefined | null): string {
  if (x === undefined || x === null) return "–";
  if (x > 0 && x < 0.0001) return "<$0.0001";
  return x !== 0 && Math.abs(x) < 0.01 ? `$${x.toPrecision(1)}` : `$${x.toFixed(2)}`;
}

/** A share of 1 as "42 %". */
export function percent(x: number): string {
  return `${Math.round(x * 100)} %`;
}

export function shortSha(sha: string): string {
  return sha.slice(0, 8);
}

/** "1 agent", "3 agents". */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}
