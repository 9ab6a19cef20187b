/**
 * The lines that differ between two texts, with some context: what `Edit` and `Write` calls are shown as.
 *
 * Plain longest-common-subsequence after the equal head and tail are taken off. Where what remains is too large for the
 * table (a quarter of a million cells), it is shown as removed and added; nothing is left out.
 */

export interface DiffLine {
  readonly sign: " " | "-" | "+" | "@";
  readonly text: string;
}

const CELLS_MAX = 250_000;
const CONTEXT = 3;

function linesOf(text: string): string[] {
  if (text === "") return [];
  return (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n");
}

/** The whole way from `before` to `after`, equal lines included. */
export function compareLines(before: string, after: string): DiffLine[] {
  const old = linesOf(before);
  const neu = linesOf(after);
  let head = 0;
  while (head < old.length && head < neu.length && old[head] === neu[head]) head++;
  let tail = 0;
  while (tail < old.length - head && tail < neu.length - head && old[old.length - 1 - tail] === neu[neu.length - 1 - tail])
    tail++;
  const middle = lcs(old.slice(head, old.length - tail), neu.slice(head, neu.length - tail));
  const equal = (text: string): DiffLine => ({ sign: " ", text });
  return [...old.slice(0, head).map(equal), ...middle, ...old.slice(old.length - tail).map(equal)];
}

function lcs(old: readonly string[], neu: readonly string[]): DiffLine[] {
  const removed = old.map((text): DiffLine => ({ sign: "-", text }));
  const added = neu.map((text): DiffLine => ({ sign: "+", text }));
  if (!old.length || !neu.length || old.length * neu.length > CELLS_MAX) return [...removed, ...added];
  const width = neu.length + 1;
  const table = new Uint32Array((old.length + 1) * width);
  const at = (i: number, j: number): number => table[i * width + j] ?? 0;
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = neu.length - 1; j >= 0; j--)
      table[i * width + j] = old[i] === neu[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const way: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < old.length && j < neu.length) {
    if (old[i] === neu[j]) {
      way.push({ sign: " ", text: old[i] ?? "" });
      i++;
      j++;
    } else if (at(i + 1, j) >= at(i, j + 1)) way.push({ sign: "-", text: old[i++] ?? "" });
    else way.push({ sign: "+", text: neu[j++] ?? "" });
  }
  return [...way, ...removed.slice(i), ...added.slice(j)];
}

/** The same with long runs of equal lines folded into one `@` line that says how many there were. */
export function diffLines(before: string, after: string): DiffLine[] {
  const way = compareLines(before, after);
  const near = new Uint8Array(way.length);
  way.forEach((line, at) => {
    if (line.sign === " ") return;
    for (let n = Math.max(0, at - CONTEXT); n <= Math.min(way.length - 1, at + CONTEXT); n++) near[n] = 1;
  });
  const shown: DiffLine[] = [];
  for (let at = 0; at < way.length; at++) {
    const line = way[at] as DiffLine;
    if (near[at]) shown.push(line);
    else {
      let run = 1;
      while (at + run < way.length && !near[at + run]) run++;
      shown.push({ sign: "@", text: run === 1 ? "1 line as it was" : `${run} lines as they were` });
      at += run - 1;
    }
  }
  return shown;
}

/** Added and removed lines. */
export function countLines(lines: readonly DiffLine[]): { added: number; removed: number } {
  let [added, removed] = [0, 0];
  for (const line of lines) {
    if (line.sign === "+") added++;
    else if (line.sign === "-") removed++;
  }
  return { added, removed };
}
