// Makes what does not show visible: control, bidi, zero-width and other invisible characters as escapes, so that no
// text of an agent's looks like something it is not. Pure; the result is plain text.

// Controls but \t \n, DEL and C1, soft hyphen, combining grapheme joiner, Arabic letter mark, Hangul fillers, Khmer
// inherent vowels, Mongolian separators, zero widths and bidi marks, line and paragraph separators, bidi embeddings and
// isolates, invisible operators, variation selectors that join nothing, BOM, interlinear marks, tags.
const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]/gu;

const NAMED: Readonly<Record<string, string>> = { "\r": "\\r", "\u001b": "\\e", "\u0000": "\\0", "\u0008": "\\b" };

/** The text with every invisible character as an escape ("\u{202e}"); newlines and tabs stay. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (char, at: number) => {
    // A zero-width joiner inside an emoji is part of what is seen.
    if (char === "\u200d" && /\p{Extended_Pictographic}\ufe0f?$/u.test(text.slice(Math.max(0, at - 4), at))) return char;
    return NAMED[char] ?? `\\u{${char.codePointAt(0)!.toString(16)}}`;
  });
}

/** As `visible`, on one line: newlines and tabs become a space. */
export function oneLine(text: string): string {
  return visible(text.replace(/[\t\r\n]+/g, " "));
}

/** Whether anything in it would be escaped: worth a warning where a decision hangs on the text. */
export function hidesSomething(text: string): boolean {
  return visible(text) !== text;
}
