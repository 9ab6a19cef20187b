/*
 * A line of agent text in parts, so that nothing in it acts and nothing in it hides.
 *
 * Characters that do not show, reorder text or take no room become escapes (`\u{202e}`), each a part of its own that
 * the screen sets apart; letters of another script in a Latin word are marked. Tabs stay: they are whitespace, and the
 * whitespace toggle shows them. Joining the parts' `raw` gives the line back, whatever was in it.
 */

export interface Part {
  /** What is drawn: plain text, or an escape. */
  readonly text: string;
  /** What stands in the file. */
  readonly raw: string;
  readonly kind: "plain" | "hidden" | "stranger";
}

/* Control, format, surrogate, private, unassigned; separators but the space; what fonts draw as nothing. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{DI}\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]/u;
const HIDDEN_ALL = new RegExp(HIDDEN, "gu");
const PLAIN = /^[\t\x20-\x7e]*$/u;
const WORD = /[\p{L}\p{M}\p{N}_]+/gu;
const LATIN = /\p{Script=Latin}/u;
/** Scripts whose letters pass for Latin ones, and Latin letters of another width or style. */
const STRANGER = /[\p{Script=Cyrillic}\p{Script=Greek}\p{Script=Armenian}\p{Script=Cherokee}\p{Script=Coptic}\p{Script=Lisu}\uff21-\uff3a\uff41-\uff5a\u{1d400}-\u{1d7ff}]/u;

/** Whether `char` shows nothing of itself; a tab does not count. */
export function isHidden(char: string): boolean {
  return char !== "\t" && HIDDEN.test(char);
}

export function escapeOf(char: string): string {
  return `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`;
}

/** Whether a line is as plain as it looks: the usual case, told apart cheaply. */
export function isPlain(line: string): boolean {
  return PLAIN.test(line) && !line.includes("\\u{");
}

export function parts(line: string): readonly Part[] {
  if (isPlain(line)) return [{ text: line, raw: line, kind: "plain" }];
  const strangers = strangersIn(line);
  const found: Part[] = [];
  let plain = "";
  const flush = (): void => {
    if (plain) found.push({ text: plain, raw: plain, kind: "plain" });
    plain = "";
  };
  let at = 0;
  for (const char of line) {
    const kind = isHidden(char) ? "hidden" : strangers.has(at) ? "stranger" : "plain";
    if (kind !== "plain") {
      flush();
      found.push({ text: kind === "hidden" ? escapeOf(char) : char, raw: char, kind });
    } else if (char === "\\" && line.startsWith("\\u{", at)) {
      // A backslash that looks like an escape of ours is one itself, so that no escape can be forged.
      flush();
      found.push({ text: "\\u{5c}", raw: "\\", kind: "hidden" });
    } else {
      plain += char;
    }
    at += char.length;
  }
  flush();
  return found;
}

/** What the text holds that a reader would not see, by character; empty for what is as it looks. */
export function hiddenIn(text: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const [char] of text.matchAll(HIDDEN_ALL)) {
    if (char !== "\t" && char !== "\n") counts.set(char, (counts.get(char) ?? 0) + 1);
  }
  return counts;
}

/** Where letters stand that look at home in a Latin word and are not. */
function strangersIn(line: string): ReadonlySet<number> {
  const found = new Set<number>();
  for (const word of line.matchAll(WORD)) {
    if (!STRANGER.test(word[0]) || !LATIN.test(word[0].replace(/[\uff21-\uff5a]/gu, ""))) continue;
    let at = word.index;
    for (const char of word[0]) {
      if (STRANGER.test(char)) found.add(at);
      at += char.length;
    }
  }
  return found;
}

const NAMES: Readonly<Record<string, string>> = {
  "\u200b": "zero-width space", "\u200c": "zero-width non-joiner", "\u200d": "zero-width joiner",
  "\u200e": "left-to-right mark", "\u200f": "right-to-left mark", "\u202a": "left-to-right embedding",
  "\u202b": "right-to-left embedding", "\u202c": "end of embedding", "\u202d": "left-to-right override",
  "\u202e": "right-to-left override", "\u2066": "left-to-right isolate", "\u2067": "right-to-left isolate",
  "\u2068": "first strong isolate", "\u2069": "end of isolate", "\ufeff": "byte order mark",
  "\u00ad": "soft hyphen", "\u00a0": "no-break space", "\u001b": "escape", "\u0000": "null",
  "\r": "carriage return", "\u2028": "line separator", "\u2029": "paragraph separator",
};

/** `U+202E right-to-left override`. */
export function nameOf(char: string): string {
  const code = `U+${(char.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
  return NAMES[char] ? `${code} ${NAMES[char]}` : `${code} ${classOf(char)}`;
}

function classOf(char: string): string {
  if (/\p{Cc}/u.test(char)) return "control character";
  if (/\p{Cf}/u.test(char)) return "format character";
  if (/[\p{Cs}\p{Co}\p{Cn}]/u.test(char)) return "unassigned character";
  return "character that does not show";
}
