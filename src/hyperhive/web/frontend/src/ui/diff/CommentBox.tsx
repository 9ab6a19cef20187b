/* A comment on a line of a diff: read, or written. Its text is kept with every stroke. */

import type { JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Button, Text } from "..";

export function CommentBox(props: {
  text: string;
  editing: boolean;
  onEdit: () => void;
  onClose: () => void;
  onSave: (text: string) => void;
}): JSX.Element {
  const field = useRef<HTMLTextAreaElement>(null);
  // Before the next key is read: who clicks and writes on loses no letter.
  useLayoutEffect(() => {
    if (props.editing) field.current?.focus();
  }, [props.editing]);
  if (!props.editing) {
    return (
      <div class="diff-comment">
        <Text text={props.text} />
        <span class="diff-comment-do">
          <Button small kind="ghost" onClick={props.onEdit}>Edit</Button>
          <Button small kind="ghost" onClick={() => props.onSave("")}>Remove</Button>
        </span>
      </div>
    );
  }
  return (
    <div class="diff-comment">
      <textarea
        ref={field}
        aria-label="Comment on this line"
        placeholder="Goes into the denial, with this line"
        rows={2}
        value={props.text}
        onInput={(event) => props.onSave(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape" || (event.key === "Enter" && (event.ctrlKey || event.metaKey))) {
            event.stopPropagation();
            props.onClose();
          }
        }}
      />
      <span class="diff-comment-do">
        <Button small onClick={props.onClose}>Done</Button>
      </span>
    </div>
  );
}
