// Dialogs over the native <dialog>: the browser keeps the focus inside and gives it back. What destroys asks for a name.
import type { ComponentChildren, VNode } from "preact";
import { useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { asApiError, type ApiError } from "../lib/api";
import { Button, IconButton } from "./basics";
import { ErrorBox, Text } from "./states";

export interface DialogProps {
  title: string;
  onClose(): void;
  children: ComponentChildren;
  footer?: ComponentChildren;
  wide?: boolean;
}

export function Dialog({ title, onClose, children, footer, wide }: DialogProps): VNode {
  const ref = useRef<HTMLDialogElement>(null);
  const label = useId();
  const pressed = useRef<EventTarget | null>(null); // what is selected with the mouse may end outside, and closes nothing
  useLayoutEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    const dialog = ref.current!;
    dialog.showModal();
    dialog.querySelector<HTMLElement>("[data-autofocus],input,textarea,select")?.focus();
    return () => {
      dialog.close(); // while it is open, nothing behind it takes the focus
      before?.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      class={`dialog${wide ? " wide" : ""}`}
      aria-labelledby={label}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onPointerDown={(event) => void (pressed.current = event.target)}
      onClick={(event) => event.target === ref.current && pressed.current === ref.current && onClose()}
    >
      <div class="dialog-in">
        <header class="dialog-head">
          <h2 id={label}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={onClose} />
        </header>
        <div class="dialog-body">{children}</div>
        {footer && <footer class="dialog-foot">{footer}</footer>}
      </div>
    </dialog>
  );
}

interface Confirming {
  title: string;
  /** The word on the button: what will happen. */
  confirm: string;
  danger?: boolean;
  /** May fail: then the dialog stays and says why. */
  onConfirm(): Promise<unknown> | unknown;
  onClose(): void;
  children?: ComponentChildren;
}

export function ConfirmDialog({ title, confirm, danger, onConfirm, onClose, children }: Confirming): VNode {
  const { busy, error, run } = useConfirm(onConfirm, onClose);
  return (
    <Dialog
      title={title}
      onClose={onClose}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind={danger ? "danger" : "primary"} busy={busy} data-autofocus onClick={run}>
            {confirm}
          </Button>
        </>
      }
    >
      {children}
      {error && <ErrorBox error={error} />}
    </Dialog>
  );
}

/** For what cannot be undone: the name has to be typed, and what is lost and what is kept is said. */
export function TypedNameDialog({ phrase, lost, kept, lostTitle = "Lost for good", ...rest }: Confirming & { phrase: string; lost?: string[]; kept?: string[]; lostTitle?: string }): VNode {
  const [typed, setTyped] = useState("");
  const { busy, error, run } = useConfirm(rest.onConfirm, rest.onClose);
  const right = typed.trim() === phrase;
  const field = useId();
  return (
    <Dialog
      title={rest.title}
      onClose={rest.onClose}
      footer={
        <>
          <Button onClick={rest.onClose}>Cancel</Button>
          <Button kind="danger" busy={busy} disabled={!right} onClick={run}>
            {rest.confirm}
          </Button>
        </>
      }
    >
      {rest.children}
      {(lost || kept) && (
        <dl class="lost-kept">
          {lost && (
            <div>
              <dt>{lostTitle}</dt>
              {lost.map((each) => (
                <dd key={each}>{each}</dd>
              ))}
            </div>
          )}
          {kept && (
            <div>
              <dt>Kept</dt>
              {kept.map((each) => (
                <dd key={each}>{each}</dd>
              ))}
            </div>
          )}
        </dl>
      )}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (right && !busy) run();
        }}
      >
        <label class="field-label" for={field}>
          Type <strong class="mono"><Text text={phrase} /></strong> to confirm
        </label>
        <input id={field} class="input mono" autocomplete="off" autocapitalize="off" spellcheck={false} value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
      </form>
      {error && <ErrorBox error={error} />}
    </Dialog>
  );
}

function useConfirm(onConfirm: () => Promise<unknown> | unknown, onClose: () => void): { busy: boolean; error: ApiError | undefined; run: () => void } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const run = (): void => {
    setBusy(true);
    setError(undefined);
    Promise.resolve(onConfirm()).then(onClose, (failed: unknown) => {
      setError(asApiError(failed));
      setBusy(false);
    });
  };
  return { busy, error, run };
}
