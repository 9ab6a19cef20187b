/*
 * One file of a diff: its head (path, counts, viewed mark) and, where it is open, its lines with their comments.
 *
 * A long file is drawn piece by piece. Line numbers are buttons that open a comment; the arrow keys go from one to the
 * next, so that a diff is one stop of the tab key and not thousands.
 */

import type { ComponentChildren, JSX, TargetedKeyboardEvent } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Button, Icon, Text } from "..";
import { CommentBox } from "./CommentBox";
import { LineText } from "./Line";
import { markOf } from "./compare";
import type { Comment } from "./memory";
import type { DiffFile, DiffLine, Hunk } from "./parse";
import { type Side, type SplitRow, splitRows, unifiedRows } from "./rows";
import { ROWS_MORE, rowsOf } from "./tiers";

export interface FileView {
  readonly split: boolean;
  /** One line number a row: there is no room for two. */
  readonly narrow: boolean;
  readonly wrap: boolean;
  readonly ignoreWhitespace: boolean;
}

export interface FileDiffProps {
  file: DiffFile;
  view: FileView;
  open: boolean;
  onOpen: (open: boolean) => void;
  /** All of it is on the page. */
  onDrawn: () => void;
  viewed?: boolean;
  onViewed?: (viewed: boolean) => void;
  changed: boolean;
  isNew: (mark: string) => boolean;
  comments?: readonly Comment[];
  onComment?: (comment: Comment) => void;
}

const STATUS = { added: "new file", deleted: "deleted", modified: "", mode: "mode changed" } as const;

export function FileDiff(props: FileDiffProps): JSX.Element {
  const { file, open, viewed } = props;
  return (
    <section class="diff-file" aria-label={file.path} data-path={file.path}>
      <header class={`diff-head${open ? " open" : ""}`}>
        <button type="button" class="diff-toggle" aria-expanded={open} onClick={() => props.onOpen(!open)}>
          <Icon name={open ? "up" : "down"} />
          <span class="diff-path"><Text text={file.path} /></span>
        </button>
        {props.changed ? <span class="diff-tag changed">changed since you looked</span> : null}
        {STATUS[file.status] ? <span class="diff-tag">{STATUS[file.status]}</span> : null}
        <Counts file={file} />
        {props.onViewed ? (
          <label class="diff-viewed">
            <input type="checkbox" checked={viewed ?? false} onChange={(event) => props.onViewed?.(event.currentTarget.checked)} />
            Viewed
          </label>
        ) : null}
      </header>
      {open ? <FileBody {...props} /> : null}
    </section>
  );
}

export function Counts({ file }: { file: Pick<DiffFile, "added" | "removed"> }): JSX.Element {
  return (
    <span class="diff-counts">
      <span class="plus" aria-label={`${file.added} lines added`}>+{file.added}</span>{" "}
      <span class="minus" aria-label={`${file.removed} lines removed`}>−{file.removed}</span>
    </span>
  );
}

function FileBody(props: FileDiffProps): JSX.Element {
  const { file, view } = props;
  const [limit, setLimit] = useState(ROWS_MORE);
  const [writing, setWriting] = useState<string>();
  const left = rowsOf(file) - limit;
  const whole = left <= 0 || file.hunks.length === 0;
  useEffect(() => {
    if (whole) props.onDrawn();
  }, [whole]);
  const modes = file.oldMode && file.newMode ? `${file.oldMode} → ${file.newMode}` : file.newMode;
  if (file.hunks.length === 0) {
    return (
      <p class="diff-none">
        {file.binary ? "Not text: its content is not shown. " : ""}
        {modes ? `Mode ${modes}. ` : ""}
        {file.binary ? <Blobs file={file} /> : null}
      </p>
    );
  }
  const drawer = new Drawer(props, writing, setWriting);
  let room = limit;
  return (
    <div class={`diff-scroll${view.wrap ? " wrap" : ""}`} tabIndex={view.wrap ? undefined : 0} role="group" aria-label={`changes of ${file.path}`}>
      <table class={`diff-lines ${view.split ? "split" : "unified"}`} onKeyDown={walk}>
        <colgroup>{columns(view).map((name, key) => <col key={key} class={name} />)}</colgroup>
        {file.hunks.map((hunk, index) => {
          if (room <= 0) return null;
          const rows = drawer.rows(hunk).slice(0, room);
          room -= rows.length + 1;
          return (
            <tbody key={index}>
              <tr class="diff-hunk"><td colSpan={columns(view).length}>{hunkHead(hunk)}</td></tr>
              {rows}
            </tbody>
          );
        })}
      </table>
      {left > 0 ? (
        <p class="diff-more"><Button small onClick={() => setLimit(limit + ROWS_MORE)}>{`Show ${Math.min(left, ROWS_MORE)} more of ${left} lines`}</Button></p>
      ) : null}
    </div>
  );
}

/** Draws the rows of a hunk in either form. */
class Drawer {
  private first = true;
  constructor(
    private readonly props: FileDiffProps,
    private readonly writing: string | undefined,
    private readonly write: (mark: string | undefined) => void,
  ) {}

  rows(hunk: Hunk): ComponentChildren[] {
    const { view } = this.props;
    return view.split ? splitRows(hunk, view).map((row, key) => this.splitRow(row, key)) : unifiedRows(hunk, view).map((side, key) => this.unifiedRow(side, key));
  }

  private unifiedRow(side: Side, key: number): ComponentChildren {
    const { line } = side;
    const { narrow } = this.props.view;
    return (
      <>
        <tr key={key} class={this.tone(line)}>
          {narrow && line.kind !== "del" ? null : this.number(line, line.oldNo, line.kind === "del")}
          {narrow && line.kind === "del" ? null : this.number(line, line.newNo, line.kind !== "del")}
          {this.code(side)}
        </tr>
        {this.note(line)}
      </>
    );
  }

  private splitRow({ left, right }: SplitRow, key: number): ComponentChildren {
    const same = left && left.line === right?.line;
    return (
      <>
        <tr key={key} class="pair">
          {left ? this.number(left.line, left.line.oldNo, left.line.kind === "del") : <td class="diff-no" />}
          {left ? this.code(left) : <td class="diff-code void" />}
          {right ? this.number(right.line, right.line.newNo, true) : <td class="diff-no" />}
          {right ? this.code(right) : <td class="diff-code void" />}
        </tr>
        {left && !same ? this.note(left.line) : null}
        {right ? this.note(right.line) : null}
      </>
    );
  }

  private tone(line: DiffLine): string {
    return `${line.kind}${line.kind !== "same" && this.props.isNew(markOf(line)) ? " fresh" : ""}`;
  }

  private code(side: Side): ComponentChildren {
    const sign = { add: "+", del: "−", same: " " }[side.line.kind];
    return (
      <td class={`diff-code ${this.tone(side.line)}`}>
        <span class="diff-sign" aria-hidden="true">{sign}</span>
        <LineText side={side} />
      </td>
    );
  }

  private number(line: DiffLine, no: number | undefined, commented: boolean): ComponentChildren {
    const tone = `diff-no ${this.tone(line)}`;
    if (no === undefined || !commented || !this.props.onComment) return <td class={tone}>{no}</td>;
    const mark = markOf(line);
    const stop = this.first;
    this.first = false;
    const side = { add: "added line", del: "removed line", same: "line" }[line.kind];
    return (
      <td class={tone}>
        <button type="button" tabIndex={stop ? 0 : -1} title="Comment on this line" aria-label={`Comment on ${side} ${no}`} onClick={() => this.write(mark)}>
          {no}
        </button>
      </td>
    );
  }

  private note(line: DiffLine): ComponentChildren {
    const mark = markOf(line);
    const { file, comments, onComment } = this.props;
    const found = comments?.find((one) => one.path === file.path && one.mark === mark);
    if (!onComment || (!found && this.writing !== mark)) return null;
    return (
      <tr class="diff-note">
        <td colSpan={columns(this.props.view).length}>
          <CommentBox
            text={found?.text ?? ""}
            editing={this.writing === mark}
            onEdit={() => this.write(mark)}
            onClose={() => this.write(undefined)}
            onSave={(text) => onComment({ path: file.path, mark, line: line.text, text })}
          />
        </td>
      </tr>
    );
  }
}

function Blobs({ file }: { file: DiffFile }): JSX.Element {
  return <code class="diff-blobs">{`${file.oldBlob} → ${file.newBlob}`}</code>;
}

function columns(view: FileView): readonly string[] {
  if (view.split) return ["no", "code", "no", "code"];
  return view.narrow ? ["no", "code"] : ["no", "no", "code"];
}

function hunkHead(hunk: Hunk): ComponentChildren {
  return (
    <>
      {`@@ line ${hunk.newStart || hunk.oldStart} `}
      <span class="muted"><Text text={hunk.section} /></span>
    </>
  );
}

/** Up and down go from line number to line number. */
function walk(event: TargetedKeyboardEvent<HTMLTableElement>): void {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  if (!(event.target instanceof HTMLButtonElement)) return;
  const all = [...event.currentTarget.querySelectorAll<HTMLButtonElement>(".diff-no button")];
  const next = all[all.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
  if (!next) return;
  event.preventDefault();
  next.focus();
}
