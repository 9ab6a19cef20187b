/* One line's text: hidden characters as escapes set apart, strangers marked, the words that differ highlighted. */

import type { ComponentChildren } from "preact";
import { type Part, isPlain, nameOf, parts } from "./hidden";
import type { Side, Span } from "./rows";

export function LineText({ side }: { side: Side }): ComponentChildren {
  const { line, spans } = side;
  const text = spans.length === 0 && isPlain(line.text) ? line.text : pieces(parts(line.text), spans).map(drawn);
  return (
    <>
      {text}
      {line.noNewline ? <span class="diff-eof" title="the file ends without a newline">⏎̸</span> : null}
    </>
  );
}

/** Any text of an agent's that a decision hangs on, shown as a diff's lines are. */
export function Revealed({ text }: { text: string }): ComponentChildren {
  return text.split("\n").map((line, index) => (
    <span key={index}>
      {index > 0 ? "\n" : ""}
      {isPlain(line) ? line : pieces(parts(line), []).map(drawn)}
    </span>
  ));
}

interface Piece extends Part {
  readonly changed: boolean;
}

/** The parts, cut where a span begins or ends. Whole parts alone are made visible, so cutting makes no escape. */
function pieces(all: readonly Part[], spans: readonly Span[]): readonly Piece[] {
  const edges = spans.flat();
  const found: Piece[] = [];
  let at = 0;
  for (const part of all) {
    const end = at + part.raw.length;
    const cuts = part.kind === "plain" ? edges.filter((edge) => edge > at && edge < end) : [];
    let from = at;
    for (const to of [...cuts, end]) {
      const changed = spans.some(([start, stop]) => from >= start && to <= stop);
      const text = part.kind === "plain" ? part.raw.slice(from - at, to - at) : part.text;
      found.push({ ...part, text, changed });
      from = to;
    }
    at = end;
  }
  return found;
}

function drawn(piece: Piece, key: number): ComponentChildren {
  const inner =
    piece.kind === "hidden" ? (
      <span class="diff-hidden" title={nameOf(piece.raw)}>{piece.text}</span>
    ) : piece.kind === "stranger" ? (
      <span class="diff-stranger" title={`${nameOf(piece.raw)}: not the Latin letter that it looks like`}>{piece.text}</span>
    ) : (
      piece.text
    );
  return piece.changed ? <mark key={key} class="diff-word">{inner}</mark> : <span key={key}>{inner}</span>;
}
