/*
 * A diff on a screen: what it holds that does not show, the list of its files, and the files, drawn as far as a page
 * bears it. Used to read (config, rollback) and to review (approvals: viewed marks, comments, what changed since).
 */

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { NARROW, useMedia } from "../../lib/media";
import { settings } from "../../lib/settings";
import { Banner, Button, Segmented, Switch, Text } from "..";
import { Counts, FileDiff, type FileView } from "./FileDiff";
import { type Since, since } from "./compare";
import { hiddenIn, nameOf } from "./hidden";
import { type Comment, type Memory, isViewed, withComment, withViewed } from "./memory";
import { type Diff, type DiffFile, parseDiff } from "./parse";
import { isTooBig, openAtFirst } from "./tiers";
import "./diff.css";

export interface DiffViewProps {
  text: string;
  /** What the download is called. */
  name: string;
  /** Makes it a review. */
  memory?: Memory;
  onMemory?: (memory: Memory) => void;
  /** The diff that was seen before this one: what is new is marked. */
  before?: string;
  /** Every file was open or is marked as viewed, and the end of the diff was on the screen. */
  onRead?: () => void;
}

export function DiffView(props: DiffViewProps): JSX.Element {
  const diff = useMemo(() => (isTooBig(props.text) ? undefined : parseDiff(props.text)), [props.text]);
  // Another text is another diff: nothing of it was drawn or seen, also where it is just as long.
  const shown = useRef({ text: props.text, n: 0 });
  if (shown.current.text !== props.text) shown.current = { text: props.text, n: shown.current.n + 1 };
  if (!diff) return <TooBig {...props} />;
  return <Files key={shown.current.n} {...props} diff={diff} />;
}

function Files(props: DiffViewProps & { diff: Diff }): JSX.Element {
  const { diff, memory, onMemory } = props;
  const fresh = useMemo(() => (props.before === undefined ? undefined : since(parseDiff(props.before), diff)), [props.before, diff]);
  const [open, setOpen] = useState(() => initiallyOpen(diff, memory));
  const [drawn, setDrawn] = useState<ReadonlySet<string>>(new Set());
  const view = useView();
  const end = useRef<HTMLDivElement>(null);
  const all = diff.files.every((file) => drawn.has(file.path) || (memory && isViewed(memory, file)));
  useWhenSeen(end, all, props.onRead);

  const toggle = (file: DiffFile, to: boolean): void => setOpen((before) => withPath(before, file.path, to));
  const latest = useRef({ memory, onMemory });
  latest.current = { memory, onMemory };
  const act = useMemo<Acts>(
    () => ({
      open: toggle,
      drawn: (file) => setDrawn((before) => withPath(before, file.path, true)),
      view: (file, viewed) => {
        const now = latest.current;
        if (now.memory) now.onMemory?.(withViewed(now.memory, file, viewed));
        toggle(file, !viewed);
      },
      comment: (comment) => {
        const now = latest.current;
        if (now.memory) now.onMemory?.(withComment(now.memory, comment));
      },
    }),
    [],
  );
  return (
    <div class="diff">
      <Hidden text={props.text} />
      {diff.strays.length > 0 ? <Strays lines={diff.strays} /> : null}
      <Toolbar {...props} view={view} />
      {diff.files.length > 1 ? <FileList diff={diff} open={diff.files.length <= 12 && !view.narrow} changed={fresh?.changed} onPick={(file) => toggle(file, true)} {...(memory ? { memory } : {})} /> : null}
      {fresh ? <News since={fresh} /> : null}
      {diff.files.map((file) => (
        <Slot
          key={file.path + file.newBlob}
          file={file}
          view={view}
          open={open.has(file.path)}
          fresh={fresh}
          comments={memory?.comments}
          viewed={memory && isViewed(memory, file)}
          act={act}
        />
      ))}
      <div ref={end} class="diff-end" aria-hidden="true" />
    </div>
  );
}

/** What can be done with a file; the same functions for as long as the diff is shown. */
interface Acts {
  open(file: DiffFile, to: boolean): void;
  drawn(file: DiffFile): void;
  view(file: DiffFile, viewed: boolean): void;
  comment(comment: Comment): void;
}

interface SlotProps {
  file: DiffFile;
  view: FileView;
  open: boolean;
  fresh: Since | undefined;
  comments: readonly Comment[] | undefined;
  viewed: boolean | undefined;
  act: Acts;
}

/** A file, drawn anew only when something of its own has changed: a mark on one of 500 costs nothing of the others. */
function Slot({ file, view, open, fresh, comments, viewed, act }: SlotProps): JSX.Element {
  const { split, narrow, wrap, ignoreWhitespace } = view;
  const own = JSON.stringify(comments?.filter((one) => one.path === file.path));
  return useMemo(
    () => (
      <FileDiff
        file={file}
        view={view}
        open={open}
        onOpen={(to) => act.open(file, to)}
        onDrawn={() => act.drawn(file)}
        changed={fresh?.changed.has(file.path) ?? false}
        isNew={(line) => fresh?.isNew(file, line) ?? false}
        {...(comments ? { viewed, onViewed: (to: boolean) => act.view(file, to), comments, onComment: act.comment } : {})}
      />
    ),
    [file, split, narrow, wrap, ignoreWhitespace, open, fresh, own, viewed, act],
  );
}

/** What is new since the operator looked, in a line. */
function News({ since: { lines, gone } }: { since: Since }): JSX.Element {
  return (
    <p class="diff-news" role="status">
      {lines === 0 ? "No line is new to you: part of it was deployed meanwhile, or taken out." : `${lines} ${lines === 1 ? "line is" : "lines are"} new to you, and bear a bar.`}
      {gone.length > 0 ? <> No longer changed: <Text text={gone.join(", ")} />.</> : null}
    </p>
  );
}

interface View extends FileView {
  readonly canSplit: boolean;
}

function useView(): View {
  const wide = useMedia("(min-width: 1100px)");
  const narrow = useMedia(NARROW);
  return {
    split: wide && settings.splitDiff.value,
    narrow,
    wrap: settings.wrap.value,
    ignoreWhitespace: settings.ignoreSpace.value,
    canSplit: wide,
  };
}

function Toolbar({ diff, memory, view, text, name }: DiffViewProps & { diff: Diff; view: View }): JSX.Element {
  const viewed = memory ? diff.files.filter((file) => isViewed(memory, file)).length : 0;
  return (
    <div class="diff-bar">
      <span class="diff-sum">
        {diff.files.length === 1 ? "1 file" : `${diff.files.length} files`} <Counts file={diff} />
      </span>
      {memory ? <span class="diff-progress" role="status">{`${viewed}/${diff.files.length} viewed`}</span> : null}
      <span class="diff-tools">
        {view.canSplit ? (
          <Segmented
            label="Layout"
            options={[{ value: "unified", label: "Unified" }, { value: "split", label: "Split" }]}
            value={view.split ? "split" : "unified"}
            onChange={(value: string) => (settings.splitDiff.value = value === "split")}
          />
        ) : null}
        <Switch checked={view.wrap} label="Wrap" onChange={(wrap: boolean) => (settings.wrap.value = wrap)} />
        <Switch checked={view.ignoreWhitespace} label="Hide whitespace" onChange={(ignore: boolean) => (settings.ignoreSpace.value = ignore)} />
        <Button small kind="ghost" icon="down" onClick={() => download(name, text)}>Raw</Button>
      </span>
    </div>
  );
}

function FileList({ diff, memory, changed, open, onPick }: {
  diff: Diff; open: boolean; memory?: Memory; changed?: ReadonlySet<string> | undefined; onPick: (file: DiffFile) => void;
}): JSX.Element {
  const pick = (file: DiffFile): void => {
    onPick(file);
    requestAnimationFrame(() => {
      const found = [...document.querySelectorAll<HTMLElement>(".diff-file")].find((one) => one.dataset["path"] === file.path);
      found?.scrollIntoView({ block: "start" });
      found?.querySelector<HTMLElement>("button")?.focus({ preventScroll: true });
    });
  };
  return (
    <details class="diff-list" open={open}>
      <summary>Files</summary>
      <ul>
        {diff.files.map((file) => (
          <li key={file.path}>
            <button type="button" onClick={() => pick(file)} class={memory && isViewed(memory, file) ? "viewed" : ""}>
              <Text text={file.path} />
              {changed?.has(file.path) ? <span class="diff-tag changed">changed</span> : null}
              <Counts file={file} />
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}

function Hidden({ text }: { text: string }): JSX.Element | null {
  const found = useMemo(() => [...hiddenIn(text)], [text]);
  if (found.length === 0) return null;
  return (
    <Banner tone="failed" icon="alert">
      <strong>There is text in this that does not show.</strong>{" "}
      {found.slice(0, 8).map(([char, count]) => `${nameOf(char)} (${count}×)`).join(", ")}
      {found.length > 8 ? `, and ${found.length - 8} more kinds` : ""}. It stands below as escapes such as <code>{"\\u{202e}"}</code>.
    </Banner>
  );
}

function Strays({ lines }: { lines: readonly string[] }): JSX.Element {
  return (
    <details class="diff-strays" open={lines.length < 20}>
      <summary>{`${lines.length} lines that belong to no file`}</summary>
      <pre>{lines.slice(0, 2000).map((line) => <div><Text text={line} /></div>)}</pre>
    </details>
  );
}

function TooBig({ text, name }: DiffViewProps): JSX.Element {
  return (
    <Banner tone="needs" icon="alert">
      This diff is too long to be shown ({Math.round(text.length / 1024 / 1024)} MiB).{" "}
      <Button small onClick={() => download(name, text)}>Download it</Button>
    </Banner>
  );
}

function initiallyOpen(diff: Diff, memory: Memory | undefined): ReadonlySet<string> {
  const first = openAtFirst(diff);
  return new Set(diff.files.filter((file) => first.has(file.path) && !(memory && isViewed(memory, file))).map((file) => file.path));
}

function withPath(paths: ReadonlySet<string>, path: string, present: boolean): ReadonlySet<string> {
  const next = new Set(paths);
  if (present) next.add(path);
  else next.delete(path);
  return next;
}

/** Calls once the element is on the screen while `ready`. */
function useWhenSeen(element: { current: HTMLElement | null }, ready: boolean, seen: (() => void) | undefined): void {
  useEffect(() => {
    const node = element.current;
    if (!node || !ready || !seen) return undefined;
    const watch = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) seen();
    });
    watch.observe(node);
    return () => watch.disconnect();
  }, [ready, seen]);
}

function download(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
