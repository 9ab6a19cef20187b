// The small parts: buttons, chips, badges, ages, ids, text.
import type { ComponentChildren, JSX, Ref, VNode } from "preact";
import { useState } from "preact/hooks";
import { absolute, moment, shortSha } from "../lib/format";
import type { ContainerState } from "../lib/protocol";
import { Link } from "../lib/router";
import { settings } from "../lib/settings";
import { ago, now, until } from "../lib/time";
import { oneLine, visible } from "../lib/visible";
import { Icon, type IconName } from "./icons";

export type Tone = "accent" | "needs" | "failed" | "working" | "ok" | "muted";

export interface ButtonProps extends Omit<JSX.IntrinsicElements["button"], "size" | "icon"> {
  kind?: "primary" | "default" | "danger" | "ghost";
  small?: boolean;
  /** Under way: says so and takes no second click. */
  busy?: boolean;
  icon?: IconName;
  /** Shown as a hint; the key itself is registered with `useActions`. */
  keys?: string;
  buttonRef?: Ref<HTMLButtonElement>;
}

export function Button({ kind = "default", small, busy, icon, keys, buttonRef, children, class: extra, ...rest }: ButtonProps): VNode {
  return (
    <button
      type="button"
      {...rest}
      ref={buttonRef}
      class={`btn btn-${kind}${small ? " btn-small" : ""} ${extra ?? ""}`}
      aria-busy={busy || undefined}
      aria-disabled={busy || undefined}
      onClick={busy ? undefined : rest.onClick}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : icon && <Icon name={icon} />}
      {children && <span class="btn-text">{children}</span>}
      {keys && <Kbd keys={keys} />}
    </button>
  );
}

export interface IconButtonProps extends Omit<JSX.IntrinsicElements["button"], "label" | "icon"> {
  icon: IconName;
  label: string;
  danger?: boolean;
  buttonRef?: Ref<HTMLButtonElement>;
}

export function IconButton({ icon, label, danger, buttonRef, class: extra, ...rest }: IconButtonProps): VNode {
  return (
    <button type="button" {...rest} ref={buttonRef} class={`icon-btn${danger ? " danger" : ""} ${extra ?? ""}`} aria-label={label} title={label}>
      <Icon name={icon} />
    </button>
  );
}

const MAC = typeof navigator !== "undefined" && /Mac|iP(hone|ad)/.test(navigator.userAgent);

export function Kbd({ keys }: { keys: string }): VNode {
  const shown = keys.split(" ").map((chord) =>
    chord
      .split("+")
      .map((part) => (part === "mod" || part === "ctrl" ? (MAC ? "⌘" : "Ctrl") : part === "shift" ? "⇧" : part === "enter" ? "↵" : part === "escape" ? "Esc" : part === "arrowdown" ? "↓" : part === "arrowup" ? "↑" : part === "arrowleft" ? "←" : part === "arrowright" ? "→" : part === "space" ? "Space" : part.length === 1 ? part.toUpperCase() : part))
      .join(MAC ? "" : "+"),
  );
  return (
    <span class="kbd" aria-hidden="true">
      {shown.map((chord) => (
        <kbd key={chord}>{chord}</kbd>
      ))}
    </span>
  );
}

export interface ChipProps {
  children: ComponentChildren;
  /** What it means, in words. */
  title: string;
  icon?: IconName;
  tone?: Tone;
  onClick?: () => void;
  /** Filters by it now. */
  on?: boolean;
  mono?: boolean;
  class?: string;
}

export function Chip({ children, title, icon, tone = "muted", onClick, on, mono, class: extra }: ChipProps): VNode {
  const inside = (
    <>
      {icon && <Icon name={icon} size={12} />}
      <span>{children}</span>
    </>
  );
  const cls = `chip tone-${tone}${mono ? " mono" : ""}${on ? " on" : ""} ${extra ?? ""}`;
  if (!onClick)
    return (
      <span class={cls} title={visible(title)}>
        {inside}
      </span>
    );
  return (
    <button
      type="button"
      class={`${cls} chip-btn`}
      title={visible(title)}
      aria-pressed={on}
      onClick={(event) => {
        event.stopPropagation();
        onClick();
      }}
    >
      {inside}
    </button>
  );
}

export const STATES: Readonly<Record<ContainerState, { word: string; icon: IconName; tone: Tone }>> = {
  needs_you: { word: "Needs you", icon: "bell", tone: "needs" },
  failed: { word: "Failed", icon: "alert", tone: "failed" },
  working: { word: "Working", icon: "bolt", tone: "working" },
  idle: { word: "Idle", icon: "circle", tone: "muted" },
  stopped: { word: "Stopped", icon: "stop", tone: "muted" },
};

export function StateBadge({ state, transient }: { state: ContainerState; transient?: string | undefined }): VNode {
  if (transient !== undefined)
    return (
      <span class="state tone-working transient">
        <span class="spinner" aria-hidden="true" />
        {transient}…
      </span>
    );
  const { word, icon, tone } = STATES[state];
  return (
    <span class={`state tone-${tone} state-${state}`}>
      <Icon name={icon} size={14} />
      {word}
    </span>
  );
}

/** How long ago, ticking; the moment itself in the title. `sentence`: as words of one ("12s ago", "just now"). */
export function Age({ at, prefix, sentence = false }: { at: number; prefix?: string; sentence?: boolean }): VNode {
  const age = settings.absoluteTimes.value ? moment(at, now.peek()) : ago(at, now.value);
  const inWords = settings.absoluteTimes.value ? age : age === "now" ? "just now" : `${age} ago`;
  return (
    <time class="age" dateTime={new Date(at * 1000).toISOString()} title={absolute(at)}>
      {prefix && `${prefix} `}
      {sentence ? inWords : age}
    </time>
  );
}

/** How long until, ticking. */
export function Until({ at, prefix = "in" }: { at: number; prefix?: string }): VNode {
  return (
    <time class="age" dateTime={new Date(at * 1000).toISOString()} title={absolute(at)}>
      {settings.absoluteTimes.value ? moment(at, now.peek()) : `${prefix} ${until(at, now.value)}`}
    </time>
  );
}

/** An id or sha, short, with a button that copies the whole of it. */
export function Id({ value, short, label = "id" }: { value: string; short?: string; label?: string }): VNode {
  const [copied, setCopied] = useState(false);
  const shown = short ?? (/^[0-9a-f]{12,}$/.test(value) ? shortSha(value) : value);
  const copy = (): void => {
    void navigator.clipboard?.writeText(value).then(() => {
      setCopied(true);
      setTimeout(() => setCopied(false), 1200);
    });
  };
  return (
    <button type="button" class="id mono" title={`${value}\nCopy`} aria-label={`${shown}: copy ${label} ${value}`} onClick={copy}>
      {shown}
      <Icon name={copied ? "check" : "copy"} size={12} />
    </button>
  );
}

export function AgentLink({ name, tab }: { name: string; tab?: string }): VNode {
  if (name === "operator" || name === "system") return <span class="agent-name">{name}</span>;
  return (
    <Link class="agent-name" href={`/agents/${encodeURIComponent(name)}${tab ? `/${tab}` : ""}`}>
      {name}
    </Link>
  );
}

/** An agent's text: a text node, with what does not show made visible. */
export function Text({ text, line = false }: { text: string; line?: boolean }): VNode {
  return <>{line ? oneLine(text) : visible(text)}</>;
}

/** A sentence of the hive's own: begins with a capital, and `what is typed` is set as code. */
export function Sentence({ text }: { text: string }): VNode {
  const parts = visible(text).split("`");
  return (
    <>
      {parts.map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : i === 0 ? part.charAt(0).toUpperCase() + part.slice(1) : part))}
    </>
  );
}

/** A share of a limit: the number is said, the bar only shows it. */
export function Progress({ value, label, tone }: { value: number; label: string; tone?: Tone }): VNode {
  const share = Math.max(0, Math.min(1, value));
  const shown = tone ?? (share >= 1 ? "failed" : share >= 0.9 ? "needs" : "accent");
  return (
    <span class={`meter tone-${shown}`} role="meter" aria-label={label} aria-valuenow={Math.round(share * 100)} aria-valuemin={0} aria-valuemax={100} title={label}>
      <span style={{ width: `${share * 100}%` }} />
    </span>
  );
}
