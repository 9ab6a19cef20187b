// The charts: bars that lead somewhere, with a table of the same figures and links below. Bars are for the pointer (a month
// of them is too narrow for a finger) and say their figure in a title; keyboards and screen readers have the table. Drawn
// of plain elements: there is no chart library and no canvas.
import type { ComponentChildren } from "preact";
import { absolute } from "../../lib/format";
import { Link, navigate } from "../../lib/router";
import { oneLine } from "../../lib/visible";
import { niceTop, spanLabel, type Bar, type Part } from "./figures";

interface BarsProps {
  /** The bars count things: no tick stands between two of them. */
  whole?: boolean;
  /** What is shown, for those who do not see it. */
  label: string;
  bars: readonly Bar[];
  format(value: number): string;
  /** Where a bar leads; nowhere for an empty one. */
  hrefOf(bar: Bar): string;
}

/** Bars over time. */
export function Bars({ label, bars, format, hrefOf, whole = false }: BarsProps) {
  const top = niceTop(Math.max(whole ? 2 : 0, ...bars.map((bar) => bar.value)));
  const every = Math.max(1, Math.ceil(bars.length / 8));
  return (
    <figure class="chart" aria-label={label}>
      <div class="chart-area" aria-hidden="true">
        <div class="chart-axis">
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
                <span class="chart-bar" title={title} data-leads={bar.value > 0 || undefined} onClick={() => bar.value > 0 && navigate(hrefOf(bar))}>
                  <span style={height} />
                </span>
                <span class="chart-tick">
                  {at % every === 0 && at + every / 2 < bars.length ? bar.label : ""}
                </span>
              </li>
            );
          })}
        </ol>
      </div>
      <AsTable caption={label} head={["From", "To", "Figure"]} rows={bars.map((bar) => [absolute(bar.from), absolute(bar.to), bar.value > 0 ? <Link href={hrefOf(bar)}>{format(bar.value)}</Link> : format(bar.value)])} />
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
      <div class="chart-area" aria-hidden="true">
        <div class="chart-axis">
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
                  return <span key={part.name} class={`chart-part colour-${part.colour}`} title={title} onClick={() => navigate(part.href)} style={{ height: `${(part.value / top) * 100}%` }} />;
                })}
              </span>
              <span class="chart-tick">
                {at % every === 0 && at + every / 2 < stacks.length ? stack.label : ""}
              </span>
            </li>
          ))}
        </ol>
      </div>
    </figure>
  );
}

export function AsTable({ caption, head, rows }: { caption: string; head: readonly string[]; rows: readonly (readonly ComponentChildren[])[] }) {
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
