// The charts: bars that lead somewhere, with a table of the same figures and links below. A month of bars is too narrow for a
// stop of the keyboard each: the chart is one, a list box in which the arrow keys choose (`useBars`). Each bar says its name and
// figure. Drawn of plain elements: there is no chart library and no canvas.
import type { ComponentChildren } from "preact";
import { absolute } from "../../lib/format";
import { Link, navigate } from "../../lib/router";
import { oneLine } from "../../lib/visible";
import { Chosen, useBars } from "./chosen";
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
  const stops = bars.map((bar) => [{ says: `${spanLabel(bar.from, bar.to)}: ${format(bar.value)}`, ...(bar.value > 0 && { href: hrefOf(bar) }) }]);
  const { list, option, chosen } = useBars(label, stops);
  return (
    <figure class="chart" aria-label={label}>
      <div class="chart-area">
        <Axis top={top} format={format} />
        <div class="chart-bars" {...list}>
          {bars.map((bar, at) => {
            const height = { height: `${Math.max(bar.value > 0 ? 1.5 : 0, (bar.value / top) * 100)}%` };
            const { says, href } = stops[at]![0]!;
            return (
              <div key={bar.from} class="chart-column" {...option(at, 0)} title={says} onClick={() => href && navigate(href)}>
                <span class="chart-bar" data-leads={bar.value > 0 || undefined}>
                  <span style={height} />
                </span>
                <Tick shown={at % every === 0 && at + every / 2 < bars.length} label={bar.label} />
              </div>
            );
          })}
        </div>
      </div>
      <Chosen stop={chosen} />
      <AsTable caption={label} head={["From", "To", "Figure"]} rows={bars.map((bar) => [absolute(bar.from), absolute(bar.to), bar.value > 0 ? <Link href={hrefOf(bar)}>{format(bar.value)}</Link> : format(bar.value)])} />
    </figure>
  );
}

function Axis({ top, format }: { top: number; format(value: number): string }) {
  return (
    <div class="chart-axis" aria-hidden="true">
      <span>{format(top)}</span>
      <span>{format(top / 2)}</span>
      <span>{format(0)}</span>
    </div>
  );
}

/** What stands below a bar, where there is room. */
function Tick({ shown, label }: { shown: boolean; label: string }) {
  return (
    <span class="chart-tick" aria-hidden="true">
      {shown ? label : ""}
    </span>
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
  const stops = stacks.map((stack) => stack.parts.map((part) => ({ says: `${stack.label}, ${oneLine(part.name)}: ${format(part.value)}`, href: part.href, of: part.name })));
  const { list, option, chosen } = useBars(label, stops);
  return (
    <figure class="chart" aria-label={label}>
      <div class="chart-area">
        <Axis top={top} format={format} />
        <div class="chart-bars" {...list}>
          {stacks.map((stack, at) => (
            <div key={stack.from} class="chart-column" role="presentation">
              <span class="chart-bar chart-stack" role="presentation">
                {stack.parts.map((part, n) => (
                  <span key={part.name} class={`chart-part colour-${part.colour}`} {...option(at, n)} title={stops[at]![n]!.says} onClick={() => navigate(part.href)} style={{ height: `${(part.value / top) * 100}%` }} />
                ))}
              </span>
              <Tick shown={at % every === 0 && at + every / 2 < stacks.length} label={stack.label} />
            </div>
          ))}
        </div>
      </div>
      <Chosen stop={chosen} />
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
