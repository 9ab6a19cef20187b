// A menu on a button: arrows move, Enter chooses, Escape and a click elsewhere close it, the focus goes back.
import type { VNode } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./icons";

export interface MenuItem {
  label: string;
  icon?: IconName;
  danger?: boolean;
  disabled?: boolean;
  /** An item that is on or off; the menu stays open. */
  checked?: boolean;
  /** Shown smaller behind the label. */
  hint?: string;
  /** A line above it. */
  separate?: boolean;
  run(): void;
}

export function Menu({ label, items, icon = "more", text }: { label: string; items: MenuItem[]; icon?: IconName; text?: string }): VNode {
  const [open, setOpen] = useState(false);
  const id = useId();
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!open) return;
    place(button.current!, list.current!);
    list.current?.querySelector<HTMLElement>("[role^=menuitem]:not([aria-disabled])")?.focus();
    const away = (event: Event): void => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    const scrolled = (event: Event): void => {
      // Only what carries the button away: a log that runs on elsewhere in the page closes nothing.
      const what = event.target as Node;
      if (list.current?.contains(what) || !(what === (window as unknown) || what.contains(button.current))) return;
      if (list.current?.contains(document.activeElement)) button.current?.focus({ preventScroll: true });
      setOpen(false);
    };
    document.addEventListener("pointerdown", away, true);
    addEventListener("scroll", scrolled, true);
    addEventListener("resize", scrolled);
    return () => {
      document.removeEventListener("pointerdown", away, true);
      removeEventListener("scroll", scrolled, true);
      removeEventListener("resize", scrolled);
    };
  }, [open]);
  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  const move = (by: number): void => {
    const all = [...(list.current?.querySelectorAll<HTMLElement>("[role^=menuitem]") ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    all[(at + by + all.length) % all.length]?.focus();
  };
  return (
    <div
      class="menu-root"
      ref={root}
      onClick={(event) => event.stopPropagation()}
      onKeyDown={(event) => {
        if (!open) return;
        const done = { ArrowDown: () => move(1), ArrowUp: () => move(-1), Escape: close, Tab: () => setOpen(false) }[event.key];
        if (!done) return;
        if (event.key !== "Tab") event.preventDefault();
        event.stopPropagation();
        done();
      }}
    >
      <button ref={button} type="button" class={text ? "btn btn-default" : "icon-btn"} aria-label={text ? undefined : label} title={label} aria-haspopup="menu" aria-expanded={open} aria-controls={open ? id : undefined} onClick={() => setOpen(!open)}>
        {text ? (
          <>
            <span class="btn-text">{text}</span>
            <Icon name="down" size={12} />
          </>
        ) : (
          <Icon name={icon} />
        )}
      </button>
      {open && (
        <div id={id} ref={list} class="menu" role="menu" aria-label={label}>
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role={item.checked === undefined ? "menuitem" : "menuitemcheckbox"}
              aria-checked={item.checked}
              tabIndex={-1}
              class={`menu-item${item.danger ? " danger" : ""}${item.separate ? " separate" : ""}`}
              aria-disabled={item.disabled || undefined}
              onClick={() => {
                if (item.disabled) return;
                if (item.checked === undefined) close();
                item.run();
              }}
            >
              {item.icon || item.checked ? <Icon name={item.icon ?? "check"} size={14} /> : <span class="icon-gap" />}
              <span>{item.label}</span>
              {item.hint && <span class="menu-hint">{item.hint}</span>}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}

/** Below the button where there is room, else above; never over the edge of the window. */
function place(button: HTMLElement, list: HTMLElement): void {
  const at = button.getBoundingClientRect();
  const { width, height } = list.getBoundingClientRect();
  const below = at.bottom + 4 + height <= innerHeight;
  list.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - height - 4)}px`;
  list.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
}
