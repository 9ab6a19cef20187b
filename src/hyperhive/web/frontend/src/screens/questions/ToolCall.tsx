/* A tool call that waits: the tool's name and all of its input. What it says is the agent's; nothing in it acts. */

import type { JSX } from "preact";
import type { Question, ToolCall as Call } from "../../lib/protocol";
import { Banner, Chip, Text } from "../../ui";
import { Revealed, hiddenIn, nameOf } from "../../ui/diff";
import { cautionOf, fieldsOf } from "./model";

export function ToolCall({ question, tool }: { question: Question; tool: Call }): JSX.Element {
  const fields = fieldsOf(tool.input as Readonly<Record<string, unknown>>);
  const hidden = [...new Set(fields.flatMap((field) => [...hiddenIn(field.text).keys()]))];
  const caution = cautionOf(question);
  return (
    <div class="tool-call">
      <p class="tool-name"><Chip tone="accent" title="The tool" mono><Text text={tool.name} line /></Chip></p>
      {hidden.length > 0 ? <Banner tone="failed" icon="alert"><b>There is text in this that does not show</b>: {hidden.slice(0, 6).map(nameOf).join(", ")}. It stands below as escapes.</Banner> : null}
      {fields.length === 0 ? <p class="muted">without input</p> : null}
      <dl class="tool-input">
        {fields.map((field) => (
          <div key={field.name} class={field.block ? "block" : ""}>
            <dt><Text text={field.name} line /></dt>
            <dd><pre tabIndex={field.block ? 0 : undefined}><Revealed text={field.text} /></pre></dd>
          </div>
        ))}
      </dl>
      <p class="tool-always muted">
        <Text text={scopeOf(question, tool)} />
        {caution ? <> <b><Text text={caution} /></b></> : null}
      </p>
    </div>
  );
}

/** What `allow always` would stand for, in the core's words. */
function scopeOf(question: Question, tool: Call): string {
  const found = /`allow always` stands for ([^;]*);/u.exec(question.question)?.[1];
  return `“Allow always” stands for ${found ?? `every ${tool.name} of ${question.asker}`}.`;
}
