// Somebody's markdown in a page. Until the sanitiser has been fetched (once a visit) the text stands as it was written.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { visible } from "./visible";
import "./markdown.css";

type Render = (text: string) => DocumentFragment;

let render: Render | undefined;
let fetching: Promise<void> | undefined;

function fetchRenderer(): Promise<void> {
  fetching ??= import("./markdown").then(
    (module) => {
      render = module.render;
    },
    () => {
      fetching = undefined; // offline: the text is readable as it is, and the next one tries again
    },
  );
  return fetching;
}

/** Anything that could be markup; a text without it needs no parser. Most lines of a log are such texts. */
const MARKUP = /[*_`[\]<>#|~&\\\n]|:\/\/|mailto:|^\s*(?:[-+=]|\d+[.)])/;

interface Props {
  text: string;
  class?: string;
}

/** Markdown as elements: links open elsewhere, images are named and not loaded. */
export function Markdown({ text, class: extra = "" }: Props) {
  if (MARKUP.test(text)) return <Made text={text} class={extra} />;
  return (
    <div class={`markdown ${extra}`}>
      <p>{visible(text)}</p>
    </div>
  );
}

function Made({ text, class: extra = "" }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const [ready, setReady] = useState(render !== undefined);
  useLayoutEffect(() => {
    if (ready && render) place.current?.replaceChildren(render(text));
    else void fetchRenderer().then(() => setReady(render !== undefined));
  }, [text, ready]);
  // Two elements, so that Preact never looks into the one whose children are not its own.
  return ready ? <div key="made" ref={place} class={`markdown ${extra}`} /> : <div key="plain" class={`markdown markdown-plain ${extra}`}>{visible(text)}</div>;
}
