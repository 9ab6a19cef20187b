/* The files that a message names: their text on demand, read by the core from where the agent may write. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { request } from "../lib/api";
import { bytes } from "../lib/format";
import { useLoad } from "../lib/load";
import type { FileRef } from "../lib/protocol";
import { ErrorBox, Icon, Loading, Text } from "../ui";

export function FileRefs({ message, files }: { message: number; files: readonly FileRef[] | undefined }): JSX.Element | null {
  if (!files || files.length === 0) return null;
  return (
    <ul class="files" aria-label="Files it names">
      {files.map((file, index) => <li key={index}><File message={message} n={index + 1} file={file} /></li>)}
    </ul>
  );
}

function File({ message, n, file }: { message: number; n: number; file: FileRef }): JSX.Element {
  const [open, setOpen] = useState(false);
  return (
    <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <Icon name="audit" size={14} />
        <code><Text text={file.path} line /></code>
        <span class="muted">{`${file.kind}, ${bytes(file.size)}`}</span>
      </summary>
      {open ? <Content message={message} n={n} /> : null}
    </details>
  );
}

function Content({ message, n }: { message: number; n: number }): JSX.Element {
  const loaded = useLoad((signal) => request({ cmd: "state_file_read", message, n }, { signal }), [message, n]);
  if (loaded.error) return <ErrorBox error={loaded.error} retry={loaded.reload} />;
  if (!loaded.value) return <Loading lines={3} />;
  const { text, truncated, file } = loaded.value;
  if (text === undefined) return <p class="muted">{`It is ${file.kind === "image" ? "an image" : "no text"}: not shown here.`}</p>;
  return (
    <>
      <pre tabIndex={0}><Text text={text} /></pre>
      {truncated ? <p class="muted">{`Only its beginning; it is ${bytes(file.size)} long.`}</p> : null}
    </>
  );
}
