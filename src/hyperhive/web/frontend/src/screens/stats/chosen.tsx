// A chart by the keyboard: one stop of Tab, in which the arrows choose a bar (and, where bars have parts, a part of it), Home
// and End the first and last, Enter goes where it leads. What is chosen is spoken, and stands below the chart.
import type { JSX } from "preact";
import { useId, useState } from "preact/hooks";
import { navigate } from "../../lib/router";

/** What can be chosen. */
export interface Stop {
  /** Its name and figure. */
  readonly says: string;
  readonly href?: string;
  /** The part it is, the same from bar to bar. */
  readonly of?: string;
}

type Columns = readonly (readonly Stop[])[];
export type Place = readonly [column: number, part: number];

/** Where a key leads from here; undefined where it means nothing to a chart. Bars without parts are passed over. Pure. */
export function moved(columns: Columns, here: Place | undefined, key: string): Place | undefined {
  const full = columns.flatMap((parts, at) => (parts.length > 0 ? [at] : []));
  const [first, last] = [full[0], full.at(-1)];
  if (first === undefined || last === undefined) return undefined;
  const [column, part] = here ?? [last, 0];
  const to = (next: number | undefined): Place => {
    if (next === undefined) return [column, part];
    const same = columns[next]!.findIndex((stop) => stop.of === columns[column]?.[part]?.of);
    return [next, Math.max(0, same)];
  };
  switch (key) {
    case "ArrowLeft":
      return here ? to(full.findLast((at) => at < column)) : [last, 0];
    case "ArrowRight":
      return here ? to(full.find((at) => at > column)) : [last, 0];
    case "Home":
      return to(first);
    case "End":
      return to(last);
    case "ArrowUp":
      return [column, Math.min(part + 1, columns[column]!.length - 1)];
    case "ArrowDown":
      return [column, Math.max(part - 1, 0)];
    default:
      return undefined;
  }
}

/** The attributes of the chart and of each of its bars (or parts), and what is chosen. */
export function useBars(label: string, columns: Columns): { list: JSX.IntrinsicElements["div"]; option(column: number, part: number): Pick<JSX.IntrinsicElements["div"], "id" | "role" | "aria-selected" | "aria-label">; chosen: Stop | undefined } {
  const id = useId();
  const [kept, setPlace] = useState<Place>();
  const [focused, setFocused] = useState(false);
  const place = kept && columns[kept[0]]?.[kept[1]] ? kept : undefined; // of another window by now
  const chosen = place && columns[place[0]]![place[1]];
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && chosen?.href) navigate(chosen.href);
    else {
      const next = moved(columns, place, event.key);
      if (next === undefined) return;
      setPlace(next);
    }
    event.preventDefault();
    event.stopPropagation(); // the page's own keys mean something else
  };
  const nameOf = (column: number, part: number): string => `${id}-${column}-${part}`;
  return {
    chosen: focused ? chosen : undefined,
    list: {
      role: "listbox",
      tabIndex: 0,
      "aria-label": `${label}; the arrow keys choose, Enter leads to the turns`,
      "aria-orientation": "horizontal",
      ...(place && { "aria-activedescendant": nameOf(...place) }),
      onKeyDown,
      onFocus: () => {
        setFocused(true);
        if (place === undefined) setPlace(moved(columns, undefined, "End"));
      },
      onBlur: () => setFocused(false),
    },
    option: (column, part) => {
      const here = focused && place?.[0] === column && place[1] === part;
      return { id: nameOf(column, part), role: "option", "aria-selected": here, "aria-label": columns[column]![part]!.says };
    },
  };
}

/** For those who see it: what the keyboard has chosen. Its line is kept free, so that nothing moves. */
export function Chosen({ stop }: { stop: Stop | undefined }) {
  return (
    <p class="chart-chosen" aria-hidden="true">
      {stop && (
        <>
          {stop.says}
          {stop.href && <span class="muted"> · Enter opens its turns</span>}
        </>
      )}
    </p>
  );
}
