// The icons: 16 px outlines drawn for these pages. `aria-hidden`: the word beside an icon, or its button's label, says it.
import type { VNode } from "preact";

const PATHS = {
  agents: "M8 1.5 13.6 4.75v6.5L8 14.5l-5.6-3.25v-6.5zM8 5.2l2.4 1.4v2.8L8 10.8 5.6 9.4V6.6z",
  alert: "M8 2.2 14.2 13H1.8zM8 6.5v3M8 11.3v.2",
  approvals: "M4.5 2v6a3 3 0 0 0 3 3h2M4.5 8v6M11.5 9v4M9.5 11h4M4.5 2 2.8 3.7M4.5 2l1.7 1.7",
  archive: "M2 3h12v3H2zM3 6v7h10V6M6.5 8.8h3",
  arrow: "M3 8h10M9 4l4 4-4 4",
  audit: "M4 2h6l3 3v9H4zM6.5 7h4M6.5 9.5h4M6.5 12h2.5",
  back: "M13 8H3M7 4 3 8l4 4",
  bell: "M8 2a4 4 0 0 1 4 4c0 4 1.5 5 1.5 5h-11S4 10 4 6a4 4 0 0 1 4-4M6.8 13.5h2.4",
  bolt: "M9 1.5 3.5 9H8l-1 5.5L12.5 7H8z",
  chart: "M2 14h12M4 14V9M8 14V3M12 14V6.5",
  check: "M3 8.5 6.5 12 13 4.5",
  circle: "M8 3a5 5 0 1 0 0 10A5 5 0 0 0 8 3",
  clock: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 4.8V8l2.2 1.6",
  close: "M4 4l8 8M12 4l-8 8",
  config: "M2.5 5h6M11.5 5h2M2.5 11h2M7.5 11h6M8.5 3.3v3.4h3V3.3zM4.5 9.3v3.4h3V9.3z",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  dead: "M2 4h12v9H2zM2 4l6 5 6-5M11 11l3 3M14 11l-3 3",
  dot: "M8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4",
  down: "M4 6.5 8 10.5l4-4",
  edit: "M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3z",
  external: "M6 3H3v10h10v-3M9 3h4v4M13 3 7.5 8.5",
  eye: "M1.5 8S4 3.8 8 3.8 14.5 8 14.5 8 12 12.2 8 12.2 1.5 8 1.5 8M8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6",
  filter: "M2 3.5h12L9.5 8.7V13l-3-1.6V8.7z",
  gear: "M8 5.8a2.2 2.2 0 1 0 0 4.4 2.2 2.2 0 0 0 0-4.4M8 1.8v2M8 12.2v2M1.8 8h2M12.2 8h2M3.6 3.6 5 5M11 11l1.4 1.4M3.6 12.4 5 11M11 5l1.4-1.4",
  inbox: "M2 9.5 4 3h8l2 6.5V13H2zM2 9.5h3.5L6.5 11h3l1-1.5H14",
  info: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 7.3v3.9M8 4.8V5",
  key: "M10.5 2.5a3 3 0 1 1-2.6 4.5L3 12v1.8h2.3v-1.6h1.6v-1.6L8 9.5",
  link: "M7 9.5a2.5 2.5 0 0 0 3.6 0l2.4-2.4a2.5 2.5 0 0 0-3.6-3.6L8.3 4.6M9 6.5a2.5 2.5 0 0 0-3.6 0L3 8.9a2.5 2.5 0 0 0 3.6 3.6l1.1-1.1",
  lock: "M3.5 7.5h9V14h-9zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5",
  logs: "M2.5 3.5h11M2.5 6.5h7M2.5 9.5h9M2.5 12.5h5",
  menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
  message: "M2 3h12v8.5H7L4 14v-2.5H2z",
  meta: "M8 1.8 14 5 8 8.2 2 5zM2 8l6 3.2L14 8M2 11l6 3.2 6-3.2",
  minus: "M3.5 8h9",
  more: "M3.1 8a.4.4 0 1 0 .8 0 .4.4 0 1 0-.8 0M7.6 8a.4.4 0 1 0 .8 0 .4.4 0 1 0-.8 0M12.1 8a.4.4 0 1 0 .8 0 .4.4 0 1 0-.8 0",
  network: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M2 8h12M8 2c4 4 4 8 0 12M8 2c-4 4-4 8 0 12",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3l7.5 5L5 13z",
  plus: "M8 3v10M3 8h10",
  question: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M6.2 6.3c.2-2.3 3.7-2.1 3.6 0 0 1.3-1.8 1.4-1.8 2.7M8 11v.2",
  rebuild: "M10.3 2.4a3.6 3.6 0 0 0-3.9 5L2.5 11.3l2.2 2.2 3.9-3.9a3.6 3.6 0 0 0 5-3.9L11.4 8 9 7.6 8.4 5.1z",
  refresh: "M13 8a5 5 0 1 1-1.5-3.5M13 2v3h-3",
  reminder: "M8 3.5a5 5 0 1 0 0 10 5 5 0 0 0 0-10M8 6v2.8l1.8 1M2 4.2l2-1.8M14 4.2l-2-1.8",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M10.3 10.3 14 14",
  send: "M2 8l12-5.5L9.5 14 7.5 9z",
  session: "M2 3h12v8H2zM5.5 14h5M8 11v3",
  shield: "M8 1.8l5 2v4c0 3.2-2 5.3-5 6.4-3-1.1-5-3.2-5-6.4v-4z",
  sort: "M5 3v10M2.5 5.5 5 3l2.5 2.5M11 13V3M8.5 10.5 11 13l2.5-2.5",
  stalled: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11M5.5 8h5",
  stop: "M4 4h8v8H4z",
  trash: "M2.5 4h11M6 4V2.5h4V4M4 4l.7 10h6.6L12 4M6.7 6.8v4.5M9.3 6.8v4.5",
  undo: "M5.5 3 2.5 6l3 3M2.5 6H10a3.5 3.5 0 0 1 0 7H6.5",
  up: "M4 9.5 8 5.5l4 4",
  update: "M8 13V3.5M4 7.5l4-4 4 4",
  user: "M8 2.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M2.5 14c.6-6 10.400-6 11 0",
  wallet: "M2 4h10.500v2H14v7H2zM2 4v9M10.500 9.500h.2",
  x: "M4 4l8 8M12 4l-8 8",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16, class: extra = "" }: { name: IconName; size?: number; class?: string }): VNode {
  return (
    <svg class={`icon ${extra}`} width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
