/* What can be done about a message that was given up. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type ApiError, asApiError, request } from "../lib/api";
import type { Request } from "../lib/protocol";
import { recount } from "../lib/store";
import { Banner, Button, ConfirmDialog, ErrorBox, Text, toast } from "../ui";

export function Dead({ id, to, note, onDone }: { id: number; to: string; note?: string | undefined; onDone?: () => void }): JSX.Element {
  const [busy, setBusy] = useState<string>();
  const [error, setError] = useState<ApiError>();
  const [dropping, setDropping] = useState(false);
  const run = async (word: string, asked: Request, said: string): Promise<void> => {
    setBusy(word);
    setError(undefined);
    try {
      await request(asked);
      toast(said);
      recount();
      onDone?.();
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      setBusy(undefined);
    }
  };
  return (
    <>
      <Banner tone="failed" icon="dead">Given up{note ? <>: <Text text={note} /></> : "."}</Banner>
      <span class="mail-do">
        <Button icon="undo" busy={busy === "requeue"} onClick={() => void run("requeue", { cmd: "requeue", id }, `Back in the inbox of ${to}`)}>Requeue</Button>
        <Button kind="danger" icon="trash" busy={busy === "drop"} onClick={() => setDropping(true)}>Drop</Button>
      </span>
      {error ? <ErrorBox error={error} /> : null}
      {dropping ? (
        <ConfirmDialog title={`Drop message ${id}?`} confirm="Drop it" danger onClose={() => setDropping(false)} onConfirm={() => run("drop", { cmd: "drop", id }, `Message ${id} is dropped`)}>
          <p>It is put away for good: nobody gets it any more.</p>
        </ConfirmDialog>
      ) : null}
    </>
  );
}
