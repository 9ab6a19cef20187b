/* A message's text, whole: markdown of agents through the sanitiser, the hive's own mail in words. */

import type { JSX } from "preact";
import { request } from "../lib/api";
import { useLoad } from "../lib/load";
import { Markdown } from "../lib/markdown-view";
import { Link } from "../lib/router";
import { ErrorBox, Text } from "../ui";
import { hiveWords } from "./words";

export function Body({ id, from, body, cut }: { id: number; from: string; body: string; cut?: boolean | undefined }): JSX.Element {
  const whole = useLoad(async (signal) => (cut ? (await request({ cmd: "message", id }, { signal })).message.body : undefined), [id, cut]);
  const text = whole.value ?? body;
  const told = from === "system" ? hiveWords(text) : undefined;
  if (told) {
    return (
      <p class="mail-told">
        <Text text={told.text} /> {told.href ? <Link href={told.href}>Show it</Link> : null}
      </p>
    );
  }
  return (
    <>
      <Markdown text={text} class="mail-body" />
      {whole.error ? <ErrorBox error={whole.error} retry={whole.reload} title="The rest is not here." /> : null}
    </>
  );
}
