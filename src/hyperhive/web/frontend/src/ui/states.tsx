// How a screen says that there is nothing, not yet, or that something went wrong.
import type { ComponentChildren, VNode } from "preact";
import type { ApiError } from "../lib/api";
import { Button, Sentence, type Tone } from "./basics";
import { Icon, type IconName } from "./icons";

export { Text } from "./basics";

/** Nothing here: why, and what to do next. `command` is a line for the terminal. */
export function Empty({ title, icon = "circle", command, children }: { title: string; icon?: IconName; command?: string; children?: ComponentChildren }): VNode {
  return (
    <div class="empty">
      <Icon name={icon} size={22} />
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
      {command && <code class="empty-command">{command}</code>}
    </div>
  );
}

/** First load only: lines of the final height, so that nothing jumps. */
export function Loading({ lines = 4, label = "Loading" }: { lines?: number; label?: string }): VNode {
  return (
    <div class="loading" role="status" aria-label={label}>
      {Array.from({ length: lines }, (_, i) => (
        <span key={i} class={`skeleton w${i % 4}`} />
      ))}
    </div>
  );
}

/** What failed, why, and how to go on. */
export function ErrorBox({ error, retry, title }: { error: ApiError; retry?: () => void; title?: string }): VNode {
  return (
    <div class="error-box" role="alert">
      <Icon name="alert" />
      <div>
        {title && <strong>{title} </strong>}
        <span>
          <Sentence text={error.detail} />
        </span>
        {error.hint && (
          <p class="error-hint">
            <Sentence text={error.hint} />
          </p>
        )}
        <p class="error-meta mono">
          {error.code}
          {error.requestId && ` · request ${error.requestId}`}
        </p>
      </div>
      {retry && (
        <Button small icon="refresh" onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  );
}

export function Banner({ tone, icon, children, action }: { tone: Tone; icon: IconName; children: ComponentChildren; action?: ComponentChildren }): VNode {
  return (
    <div class={`banner tone-${tone}`}>
      <Icon name={icon} />
      <div class="banner-text">{children}</div>
      {action && <div class="banner-action">{action}</div>}
    </div>
  );
}
