// The frame of a screen: page, sections, cards, tabs, tables.
import type { ComponentChildren, VNode } from "preact";
import { Link } from "../lib/router";

export interface PageProps {
  title: string;
  /** Instead of the title's text, e.g. with a badge beside it. */
  heading?: ComponentChildren;
  lead?: ComponentChildren;
  actions?: ComponentChildren;
  tabs?: ComponentChildren;
  /** Takes the whole width (tables, logs). */
  wide?: boolean;
  children: ComponentChildren;
}

export function Page({ title, heading, lead, actions, tabs, wide, children }: PageProps): VNode {
  return (
    <div class={`page${wide ? " page-wide" : ""}`}>
      <header class="page-head">
        <div class="page-title">
          <h1>{heading ?? title}</h1>
          {lead && <p class="page-lead">{lead}</p>}
        </div>
        {actions && <div class="page-actions">{actions}</div>}
      </header>
      {tabs}
      <div class="page-body">{children}</div>
    </div>
  );
}

export function Section({ title, count, actions, children, id }: { title: string; count?: number; actions?: ComponentChildren; children: ComponentChildren; id?: string }): VNode {
  return (
    <section class="section" id={id} aria-label={title}>
      <header class="section-head">
        <h2>
          {title}
          {count !== undefined && <span class="count">{count}</span>}
        </h2>
        {actions && <div class="section-actions">{actions}</div>}
      </header>
      {children}
    </section>
  );
}

export function Card({ children, tone, class: extra }: { children: ComponentChildren; tone?: "needs" | "failed" | "accent"; class?: string }): VNode {
  return <div class={`card${tone ? ` card-${tone}` : ""} ${extra ?? ""}`}>{children}</div>;
}

export interface Tab {
  id: string;
  label: string;
  href?: string;
  onSelect?: () => void;
  count?: number;
}

/** Views of one thing. With `href` they are links, and the URL says which is shown. */
export function Tabs({ tabs, current, label = "Views" }: { tabs: Tab[]; current: string; label?: string }): VNode {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map((tab) => {
        const inside = (
          <>
            {tab.label}
            {tab.count ? <span class="count">{tab.count}</span> : null}
          </>
        );
        const here = tab.id === current ? ("page" as const) : undefined;
        return tab.href !== undefined ? (
          <Link key={tab.id} class="tab" href={tab.href} aria-current={here}>
            {inside}
          </Link>
        ) : (
          <button key={tab.id} type="button" class="tab" aria-current={here} onClick={tab.onSelect}>
            {inside}
          </button>
        );
      })}
    </nav>
  );
}

export interface Column<T> {
  id: string;
  title: string;
  render(row: T): ComponentChildren;
  /** Right-aligned figures. */
  number?: boolean;
  /** Takes what is left. */
  grow?: boolean;
  /** Left out on a phone. */
  wideOnly?: boolean;
}

export interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  rows: readonly T[];
  keyOf(row: T): string | number;
  current?: string | number;
  onOpen?(row: T): void;
  rowClass?(row: T): string;
}

export function Table<T>({ label, columns, rows, keyOf, current, onOpen, rowClass }: TableProps<T>): VNode {
  return (
    <div class="table-scroll">
      <table class="table" aria-label={label}>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.id} scope="col" class={cell(column)}>
                {column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => {
            const key = keyOf(row);
            return (
              <tr key={key} class={`${rowClass?.(row) ?? ""}${onOpen ? " openable" : ""}`} aria-current={key === current || undefined} onClick={onOpen && (() => onOpen(row))}>
                {columns.map((column) => (
                  <td key={column.id} class={cell(column)} data-label={column.title}>
                    {column.render(row)}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function cell<T>(column: Column<T>): string {
  return `${column.number ? "num" : ""}${column.grow ? " grow" : ""}${column.wideOnly ? " wide-only" : ""}`;
}
