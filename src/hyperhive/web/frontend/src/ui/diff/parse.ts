/*
 * A unified diff as git writes it, as files, hunks and lines.
 *
 * The text is the core's own (`repos/diffs.py`: no renames, full ids, plain paths), its lines are an agent's: a hunk's
 * body is taken by its counts alone, so that no line of a file can pass for the head of the next one. Nothing is shown
 * or made visible here, and nothing of a line is lost but its newline.
 */

export type LineKind = "same" | "add" | "del";

export interface DiffLine {
  readonly kind: LineKind;
  readonly text: string;
  /** Line number on either side, where it has one. */
  readonly oldNo?: number;
  readonly newNo?: number;
  /** The file ends here without a newline. */
  readonly noNewline?: true;
}

export interface Hunk {
  readonly oldStart: number;
  readonly newStart: number;
  /** What git says the hunk is in: agent text. */
  readonly section: string;
  readonly lines: readonly DiffLine[];
}

export type FileStatus = "added" | "deleted" | "modified" | "mode";

export interface DiffFile {
  readonly path: string;
  readonly status: FileStatus;
  readonly oldMode?: string;
  readonly newMode?: string;
  /** Full ids of the contents; a side without content has all zeros. */
  readonly oldBlob: string;
  readonly newBlob: string;
  readonly binary: boolean;
  readonly hunks: readonly Hunk[];
  readonly added: number;
  readonly removed: number;
  /** What this file takes of the text. */
  readonly size: number;
}

export interface Diff {
  readonly files: readonly DiffFile[];
  /** Lines that belong to no file: nothing of a diff goes unseen. */
  readonly strays: readonly string[];
  readonly added: number;
  readonly removed: number;
  readonly size: number;
}

const HEAD = "diff --git ";
const HUNK = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(?: (.*))?$/su;

export function parseDiff(text: string): Diff {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const files: DiffFile[] = [];
  const strays: string[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at] as string;
    if (!line.startsWith(HEAD)) {
      strays.push(line);
      at += 1;
      continue;
    }
    const reader = new FileReader(lines, at);
    files.push(reader.file());
    at = reader.at;
  }
  return {
    files,
    strays,
    added: files.reduce((sum, file) => sum + file.added, 0),
    removed: files.reduce((sum, file) => sum + file.removed, 0),
    size: text.length,
  };
}

/** What names a file's change: another content, or another path, is another change. */
export function changeKey(file: DiffFile): string {
  return [file.path, file.oldMode ?? "", file.newMode ?? "", file.oldBlob, file.newBlob].join(" ");
}

/** Reads one file's part, from its `diff --git` on. */
class FileReader {
  at: number;
  private readonly start: number;
  private path: string;
  private status: FileStatus = "modified";
  private oldMode: string | undefined;
  private newMode: string | undefined;
  private blobs = ["", ""];
  private binary = false;
  private added = 0;
  private removed = 0;

  constructor(private readonly lines: readonly string[], start: number) {
    this.start = start;
    this.at = start + 1;
    this.path = headPath(lines[start] as string);
  }

  file(): DiffFile {
    this.head();
    const hunks: Hunk[] = [];
    for (let hunk = this.hunk(); hunk; hunk = this.hunk()) hunks.push(hunk);
    const bare = hunks.length === 0 && !this.binary && this.blobs[0] === this.blobs[1];
    return {
      path: this.path,
      status: this.status === "modified" && bare && this.newMode ? "mode" : this.status,
      ...(this.oldMode === undefined ? {} : { oldMode: this.oldMode }),
      ...(this.newMode === undefined ? {} : { newMode: this.newMode }),
      oldBlob: this.blobs[0] ?? "",
      newBlob: this.blobs[1] ?? "",
      binary: this.binary,
      hunks,
      added: this.added,
      removed: this.removed,
      size: this.lines.slice(this.start, this.at).reduce((sum, line) => sum + line.length + 1, 0),
    };
  }

  /** The lines before the first hunk. Stops at whatever it does not know. */
  private head(): void {
    for (; this.at < this.lines.length; this.at += 1) {
      const line = this.lines[this.at] as string;
      const word = /^(old mode|new mode|new file mode|deleted file mode|index|---|\+\+\+|Binary files) (.*)$/su.exec(line);
      if (!word) return;
      const rest = word[2] as string;
      switch (word[1]) {
        case "old mode": this.oldMode = rest; break;
        case "new mode": this.newMode = rest; break;
        case "new file mode": this.status = "added"; this.newMode = rest; break;
        case "deleted file mode": this.status = "deleted"; this.oldMode = rest; break;
        case "index": this.blobs = (rest.split(" ")[0] as string).split(".."); break;
        case "Binary files": this.binary = true; break;
        default: this.named(rest);
      }
    }
  }

  /** `--- a/PATH` and `+++ b/PATH`; git ends a path that has a space with a tab. */
  private named(rest: string): void {
    const path = rest.replace(/\t$/u, "");
    if (path !== "/dev/null") this.path = path.slice(2);
  }

  private hunk(): Hunk | undefined {
    const found = HUNK.exec(this.lines[this.at] ?? "");
    if (!found) return undefined;
    this.at += 1;
    let [oldNo, newNo] = [Number(found[1]), Number(found[3])];
    let [oldLeft, newLeft] = [Number(found[2] ?? "1"), Number(found[4] ?? "1")];
    const [oldStart, newStart] = [oldNo, newNo];
    const lines: DiffLine[] = [];
    while ((oldLeft > 0 || newLeft > 0 || this.lines[this.at]?.startsWith("\\")) && this.at < this.lines.length) {
      const line = this.lines[this.at] as string;
      const text = line.slice(1);
      if (line.startsWith("\\")) {
        const last = lines.pop();
        if (last) lines.push({ ...last, noNewline: true });
      } else if (line.startsWith("+") && newLeft > 0) {
        lines.push({ kind: "add", text, newNo });
        [newNo, newLeft, this.added] = [newNo + 1, newLeft - 1, this.added + 1];
      } else if (line.startsWith("-") && oldLeft > 0) {
        lines.push({ kind: "del", text, oldNo });
        [oldNo, oldLeft, this.removed] = [oldNo + 1, oldLeft - 1, this.removed + 1];
      } else if (line.startsWith(" ") && oldLeft > 0 && newLeft > 0) {
        lines.push({ kind: "same", text, oldNo, newNo });
        [oldNo, newNo, oldLeft, newLeft] = [oldNo + 1, newNo + 1, oldLeft - 1, newLeft - 1];
      } else {
        break; // not what its head said: the rest is a stray, and shown as such
      }
      this.at += 1;
    }
    return { oldStart, newStart, section: found[5] ?? "", lines };
  }
}

/** `diff --git a/PATH b/PATH`: both are the same, as renames are off. */
function headPath(line: string): string {
  const both = line.slice(HEAD.length);
  const half = (both.length - 1) / 2;
  return both.slice(2, half);
}
