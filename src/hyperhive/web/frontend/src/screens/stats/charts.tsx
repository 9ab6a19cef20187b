// The charts: bars that are links, with a table of the same figures below. Drawn of plain elements, so that every bar can
// be reached by keyboard, says its figure in its title, and prints; there is no chart library and no canvas.
import type { ComponentChildren } from "preact";
import { Link } from "../../lib/router";
import { oneLine } from "../../lib/visible";
import { niceTop, spanLabel, type Bar, type Part } from "./figures";

interface BarsProps {
  /** What is shown, for those who do not see it. */
  label: string;
  bars: readonly Bar[];
  format(value: number): string;
  /** Where a bar leads; nowhere for an empty one. */
  hrefOf(bar: Bar): string;
}

/** Bars over time. */
export function Bars({ label, bars, format, hrefOf }: BarsProps) {
  const top = niceTop(Math.max(0, ...bars.map((bar) => bar.value)));
  const every = Math.max(1, Math.ceil(bars.length / 8));
  return (
    <figure class="chart" aria-label={label}>
      <div class="chart-area">
        <div class="chart-axis" aria-hidden="true">
          <span>{format(top)}</span>
          <span>{format(top / 2)}</span>
          <span>{format(0)}</span>
        </div>
        <ol class="chart-bars">
          {bars.map((bar, at) => {
            const title = `${spanLabel(bar.from, bar.to)}: ${format(bar.value)}`;
            const height = { height: `${Math.max(bar.value > 0 ? 1.5 : 0, (bar.value / top) * 100)}%` };
            return (
              <li key={bar.from}>
                {bar.value > 0 ? (
                  <Link class="chart-bar" href={hrefOf(bar)} title={title} aria-label={title}>
                    <span style={height} />
                  </Link>
                ) : (
                  <span class="chart-bar" title={title} />
                )}
                <span class="chart-tick" aria-hidden="true">
                  {at % every === 0 && at + every / 2 < bars.length ? bar.label : ""}
                </span>
              </li>
            );
          })}
        </ol>
      </div>
      <AsTable caption={label} head={["From", "To", "Figure"]} rows={bars.map((bar) => [new Date(bar.from * 1000).toLocaleString(), new Date(bar.to * 1000).toLocaleString(), format(bar.value)])} />
    </figure>
  );
}

interface MixProps {
  label: string;
  parts: readonly Part[];
  format?(value: number): string;
  toneOf?(name: string): string;
  hrefOf?(name: string): string | undefined;
  nameOf?(name: string): ComponentChildren;
}

/** Shares of a whole, or counts beside each other: a row each. */
export function Mix({ label, parts, format = String, toneOf, hrefOf, nameOf }: MixProps) {
  if (parts.length === 0) return <p class="muted">Nothing in this time.</p>;
  const largest = Math.max(...parts.map((part) => part.value));
  return (
    <ul class="mix" aria-label={label}>
      {parts.map((part) => {
        const title = `${oneLine(part.name)}: ${format(part.value)}, ${Math.round(part.share * 100)} %`;
        const href = hrefOf?.(part.name);
        const name = nameOf ? nameOf(part.name) : oneLine(part.name);
        return (
          <li key={part.name} title={title} class={toneOf ? `tone-${toneOf(part.name)}` : ""}>
            <span class="mix-name">{href ? <Link href={href}>{name}</Link> : name}</span>
            <span class="mix-bar" aria-hidden="true">
              <span style={{ width: `${largest ? (part.value / largest) * 100 : 0}%` }} />
            </span>
            <span class="mix-value">{format(part.value)}</span>
            <span class="mix-share">{Math.round(part.share * 100)} %</span>
          </li>
        );
      })}
    </ul>
  );
}

export interface Stack {
  readonly from: number;
  readonly to: number;
  readonly label: string;
  readonly parts: readonly { readonly name: string; readonly value: number; readonly colour: number; readonly href: string }[];
}

/** Bars over time, each made of parts. */
export function Stacks({ label, stacks, format }: { label: string; stacks: readonly Stack[]; format(value: number): string }) {
  const sums = stacks.map((stack) => stack.parts.reduce((sum, part) => sum + part.value, 0));
  const top = niceTop(Math.max(0, ...sums));
  const every = Math.max(1, Math.ceil(stacks.length / 8));
  return (
    <figure class="chart" aria-label={label}>
      <div class="chart-area">
        <div class="chart-axis" aria-hidden="true">
          <span>{format(top)}</span>
          <span>{format(top / 2)}</span>
          <span>{format(0)}</span>
        </div>
        <ol class="chart-bars">
          {stacks.map((stack, at) => (
            <li key={stack.from}>
              <span class="chart-bar chart-stack">
                {stack.parts.map((part) => {
                  const title = `${stack.label}, ${part.name}: ${format(part.value)}`;
                  return <Link key={part.name} class={`chart-part colour-${part.colour}`} href={part.href} title={title} aria-label={title} style={{ height: `${(part.value / top) * 100}%` }} />;
                })}
              </span>
              <span class="chart-tick" aria-hidden="true">
                {at % every === 0 && at + every / 2 < stacks.length ? stack.label : ""}
              </span>
            </li>
          ))}
        </ol>
      </div>
    </figure>
  );
}

export function AsTable({ caption, head, rows }: { caption: string; head: readonly string[]; rows: readonly (readonly string[])[] }) {
  return (
    <details class="as-table">
      <summary>As a table</summary>
      <div class="table-scroll" tabIndex={0} role="region" aria-label={`${caption}, as a table`}>
        <table class="table">
          <caption class="sr">{caption}</caption>
          <thead>
            <tr>
              {head.map((each) => (
                <th key={each} scope="col">
                  {each}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, at) => (
              <tr key={at}>
                {row.map((cell, n) => (
                  <td key={n} class={n === row.length - 1 ? "num" : ""}>
                    {cell}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

/** A figure with its name. */
export function Figure({ name, title, children }: { name: string; title: string; children: ComponentChildren }) {
  return (
    <div class="figure" title={title}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
