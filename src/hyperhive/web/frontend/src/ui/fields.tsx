// What one types and chooses into. A field is a label, its input, a hint and an error, tied together.
import type { Signal } from "@preact/signals";
import { cloneElement, type JSX, type Ref, type VNode } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { completion, type Completion } from "../lib/complete";
import { visible } from "../lib/visible";

export interface FieldProps {
  label: string;
  hint?: string;
  error?: string | undefined;
  /** One input, select or TextArea. */
  children: VNode<{ id?: string; "aria-describedby"?: string; "aria-invalid"?: boolean }>;
}

export function Field({ label, hint, error, children }: FieldProps): VNode {
  const id = useId();
  const told = hint || error ? `${id}-told` : undefined;
  return (
    <div class={`field${error ? " field-bad" : ""}`}>
      <label class="field-label" for={id}>
        {label}
      </label>
      {cloneElement(children, { id, ...(told && { "aria-describedby": told }), ...(error && { "aria-invalid": true }) })}
      {told && (
        <p id={told} class={error ? "field-error" : "field-hint"}>
          {visible(error ?? hint ?? "")}
        </p>
      )}
    </div>
  );
}

export interface TextInputProps extends Omit<JSX.IntrinsicElements["input"], "value" | "onInput"> {
  value: string;
  onValue(value: string): void;
  inputRef?: Ref<HTMLInputElement>;
}

export function TextInput({ value, onValue, inputRef, class: extra, ...rest }: TextInputProps): VNode {
  return <input autocomplete="off" {...(rest as object)} ref={inputRef} class={`input ${extra ?? ""}`} value={value} onInput={(event) => onValue(event.currentTarget.value)} />;
}

export interface Option<V extends string = string> {
  value: V;
  label: string;
}

export function Select<V extends string>({ options, value, onValue, ...rest }: Omit<JSX.IntrinsicElements["select"], "value"> & { options: Option<V>[]; value: V; onValue(value: V): void }): VNode {
  return (
    <select {...(rest as object)} class="input select" value={value} onChange={(event) => onValue(event.currentTarget.value as V)}>
      {options.map((option) => (
        <option key={option.value} value={option.value}>
          {option.label}
        </option>
      ))}
    </select>
  );
}

export function Switch({ checked, label, onChange, hint }: { checked: boolean; label: string; onChange(checked: boolean): void; hint?: string }): VNode {
  return (
    <label class="switch">
      <input type="checkbox" role="switch" checked={checked} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span class="switch-track" aria-hidden="true" />
      <span>
        {label}
        {hint && <span class="field-hint">{hint}</span>}
      </span>
    </label>
  );
}

/** A choice of few, all of them visible. */
export function Segmented<V extends string>({ label, options, value, onChange }: { label: string; options: Option<V>[]; value: V; onChange(value: V): void }): VNode {
  return (
    <div class="segmented" role="group" aria-label={label}>
      {options.map((option) => (
        <button key={option.value} type="button" aria-pressed={option.value === value} onClick={() => onChange(option.value)}>
          {option.label}
        </button>
      ))}
    </div>
  );
}

export interface TextAreaProps extends Omit<JSX.IntrinsicElements["textarea"], "value" | "onSubmit"> {
  /** What is written; a draft, usually. */
  value: Signal<string>;
  /** Names completed after "@". */
  names?: readonly string[];
  /** Slash commands completed at the beginning: "/model". */
  commands?: readonly { name: string; hint: string }[];
  /** On mod+enter; on plain Enter too where `enterSends`. */
  onSubmit?(): void;
  enterSends?: boolean;
  areaRef?: Ref<HTMLTextAreaElement>;
}

/** Grows with its text up to a third of the window. */
export function TextArea({ value, names, commands, onSubmit, enterSends, areaRef, class: extra, ...rest }: TextAreaProps): VNode {
  const own = useRef<HTMLTextAreaElement>(null);
  const list = useId();
  const [offer, setOffer] = useState<Completion>();
  const [chosen, setChosen] = useState(0);
  const look = (area: HTMLTextAreaElement): void => {
    setOffer(completion(area.value, area.selectionStart, names ?? [], commands ?? []));
    setChosen(0);
  };
  const take = (which: number): void => {
    const picked = offer?.options[which];
    if (!offer || !picked || !own.current) return;
    const text = `${value.value.slice(0, offer.from)}${picked.insert} ${value.value.slice(offer.to).trimStart()}`;
    value.value = text;
    setOffer(undefined);
    const caret = offer.from + picked.insert.length + 1;
    queueMicrotask(() => own.current?.setSelectionRange(caret, caret));
    own.current.focus();
  };
  return (
    <div class="area">
      <textarea
        rows={2}
        {...rest}
        ref={(element) => {
          own.current = element;
          if (typeof areaRef === "function") areaRef(element);
          else if (areaRef) areaRef.current = element;
        }}
        class={`input textarea ${extra ?? ""}`}
        value={value.value}
        aria-autocomplete={names || commands ? "list" : undefined}
        aria-controls={offer ? list : undefined}
        aria-activedescendant={offer ? `${list}-${chosen}` : undefined}
        onInput={(event) => {
          value.value = event.currentTarget.value;
          look(event.currentTarget);
        }}
        onBlur={() => setTimeout(() => setOffer(undefined), 120)}
        onKeyDown={(event) => {
          if (offer) {
            const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
            if (step) setChosen((chosen + step + offer.options.length) % offer.options.length);
            else if (event.key === "Enter" || event.key === "Tab") take(chosen);
            else if (event.key === "Escape") setOffer(undefined);
            else return;
            event.preventDefault();
            event.stopPropagation();
            return;
          }
          const submits = event.key === "Enter" && !event.isComposing && (event.ctrlKey || event.metaKey || (enterSends && !event.shiftKey));
          if (submits && onSubmit) {
            event.preventDefault();
            event.stopPropagation();
            onSubmit();
          } else if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
      {offer && (
        <ul class="complete" id={list} role="listbox" aria-label="Suggestions">
          {offer.options.map((option, i) => (
            <li key={option.insert} id={`${list}-${i}`} role="option" aria-selected={i === chosen} onPointerDown={(event) => (event.preventDefault(), take(i))}>
              <span>{option.insert}</span>
              {option.hint && <span class="menu-hint">{option.hint}</span>}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
