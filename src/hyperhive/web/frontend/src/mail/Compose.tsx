/*
 * Where the operator writes. The recipient is remembered, `@name` in front changes it; what is written survives a reload,
 * and bears a key of its own until it was taken, so that sending it twice sends it once.
 */

import type { JSX, Ref } from "preact";
import { useState } from "preact/hooks";
import { type ApiError, asApiError, request } from "../lib/api";
import { useDraft } from "../lib/drafts";
import { keptFor, keyIn } from "../lib/send-key";
import { settings } from "../lib/settings";
import { agentNames } from "../lib/store";
import { Button, ErrorBox, TextArea, toast } from "../ui";
import { addressed } from "./words";

export interface ComposeProps {
  /** Names the draft: each place where one writes has its own. */
  draft: string;
  /** To whom; without it, the one written to last, or whom `@name` names. */
  to?: string;
  areaRef?: Ref<HTMLTextAreaElement>;
  onSent?: () => void;
  /** What was sent shows here anyway: no word about it. */
  quiet?: boolean;
}

export function Compose({ draft, to, areaRef, onSent, quiet }: ComposeProps): JSX.Element {
  const [text, clear] = useDraft(draft);
  const [kept, clearKey] = useDraft(`${draft}.key`);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const names = agentNames.value;
  const said = addressed(text.value, names);
  const recipient = said.to ?? to ?? settings.lastRecipient.value;
  const body = to === undefined ? said.body : said.to === to ? said.body : text.value.trim();
  const whom = to ?? recipient;

  const send = async (): Promise<void> => {
    if (!body || !whom || busy) return;
    setBusy(true);
    setError(undefined);
    kept.value = keptFor(kept.value, whom, body);
    try {
      const reply = await request({ cmd: "send", to: whom, body, dedupe_key: keyIn(kept.value) });
      clear();
      clearKey();
      settings.lastRecipient.value = whom;
      if (reply.held || !quiet) toast(reply.held ? `Held: the chain to ${whom} waits for your word` : `Queued for ${whom}`, reply.held ? { tone: "needs" } : {});
      onSent?.();
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      setBusy(false);
    }
  };
  return (
    <form
      class="compose"
      aria-label="Write a message"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      {error ? <ErrorBox error={error} title="Not sent." /> : null}
      <div class="compose-row">
        <TextArea
          value={text}
          rows={1}
          names={to === undefined ? names : []}
          onSubmit={() => void send()}
          areaRef={areaRef}
          aria-label={whom ? `Message to ${whom}` : "Message"}
          placeholder={to !== undefined ? `Write to ${to}` : whom ? `Write to ${whom}, or @somebody else` : "@name, then what you want to say"}
        />
        <Button type="submit" kind="primary" icon="send" keys="mod+enter" busy={busy} disabled={!body || !whom} title={whom ? `Send to ${whom}` : "Say to whom: @name"}>
          {whom ? <span class="compose-to">Send to {whom}</span> : "Send"}
        </Button>
      </div>
    </form>
  );
}
