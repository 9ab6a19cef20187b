// The parts of a row's body: code, markdown, differences, lists, mail. What is long is cut, and shown whole on demand.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { bytes, plural } from "../../lib/format";
import { Markdown } from "../../lib/markdown-view";
import { visible } from "../../lib/visible";
import { Text } from "../../ui";
import { countLines, type Block, type DiffLine, type Letter, type Todo } from "../../rows";

const LINES_MAX = 20;
const BYTES_MAX = 8192;

/** The beginning of a text that is too long to be shown at once, and how much there is. */
export function clamp(text: string): { text: string; cut: boolean; lines: number } {
  let at = -1;
  let lines = 1;
  let end = text.length;
  while ((at = text.indexOf("\n", at + 1)) >= 0) {
    if (lines === LINES_MAX) end = Math.min(end, at);
    lines++;
  }
  end = Math.min(end, BYTES_MAX);
  return { text: text.slice(0, end), cut: end < text.length, lines };
}

function More({ open, toggle, lines, size }: { open: boolean; toggle: () => void; lines: number; size: number }) {
  return (
    <button type="button" class="more" aria-expanded={open} onClick={toggle}>
      {open ? "show less" : `show all: ${plural(lines, "line")}, ${bytes(size)}`}
    </button>
  );
}

export function Clamped({ text, children }: { text: string; children: (shown: string) => ComponentChildren }) {
  const [open, setOpen] = useState(false);
  const short = clamp(text);
  return (
    <>
      {children(open ? text : short.text)}
      {short.cut && <More open={open} toggle={() => setOpen(!open)} lines={short.lines} size={text.length} />}
    </>
  );
}

export function Code({ text }: { text: string }) {
  if (text === "") return <div class="nothing">(nothing)</div>;
  return (
    <Clamped text={text}>
      {(shown) => (
        <pre class="code">
          <Text text={shown} />
        </pre>
      )}
    </Clamped>
  );
}

export function Prose({ text }: { text: string }) {
  return <Clamped text={text}>{(shown) => <Markdown text={shown} />}</Clamped>;
}

const SIGNS = { " ": "", "+": "added ", "-": "removed ", "@": "" } as const;

function Diff({ lines }: { lines: readonly DiffLine[] }) {
  const [open, setOpen] = useState(false);
  const shown = open ? lines : lines.slice(0, LINES_MAX);
  const { added, removed } = countLines(lines);
  return (
    <>
      <div class="rowdiff" role="group" aria-label={`${added} added, ${removed} removed`}>
        {shown.map((line, at) => (
          <div key={at} class={`rowdiff-line sign-${line.sign === "+" ? "add" : line.sign === "-" ? "del" : line.sign === "@" ? "skip" : "same"}`}>
            <span class="sign" aria-hidden="true">
              {line.sign === "@" ? "⋯" : line.sign}
            </span>
            <span class="sr">{SIGNS[line.sign]}</span>
            <span class="rowdiff-text">{visible(line.text) || " "}</span>
          </div>
        ))}
      </div>
      {lines.length > LINES_MAX && <More open={open} toggle={() => setOpen(!open)} lines={lines.length} size={lines.reduce((sum, line) => sum + line.text.length, 0)} />}
    </>
  );
}

const MARKS = { completed: ["✓", "done"], in_progress: ["▸", "now"], pending: ["○", "to do"] } as const;

function Todos({ items }: { items: readonly Todo[] }) {
  return (
    <ul class="todos">
      {items.map((item, at) => (
        <li key={at} class={`todo-${item.state}`}>
          <span aria-hidden="true">{MARKS[item.state][0]}</span>
          <span class="sr">{MARKS[item.state][1]}: </span>
          <Text text={item.text} />
        </li>
      ))}
    </ul>
  );
}

function Fields({ fields }: { fields: readonly (readonly [string, string])[] }) {
  return (
    <dl class="fields">
      {fields.map(([name, value], at) => (
        <div key={at}>
          <dt>
            <Text text={name} line />
          </dt>
          <dd>
            <Clamped text={value}>{(shown) => <Text text={shown} />}</Clamped>
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Mail({ letters }: { letters: readonly Letter[] }) {
  return (
    <div class="letters">
      {letters.map((letter, at) => (
        <div key={at} class="letter">
          <div class="letter-head">
            from <b>{visible(letter.from)}</b>
            {letter.redelivered && <span class="muted"> · delivered again</span>}
          </div>
          <Prose text={letter.body} />
        </div>
      ))}
    </div>
  );
}

export function BlockView({ block }: { block: Block }) {
  switch (block.kind) {
    case "code":
      return <Code text={block.text} />;
    case "markdown":
      return <Prose text={block.text} />;
    case "diff":
      return <Diff lines={block.lines} />;
    case "todos":
      return <Todos items={block.items} />;
    case "fields":
      return <Fields fields={block.fields} />;
    case "mail":
      return <Mail letters={block.letters} />;
  }
}
