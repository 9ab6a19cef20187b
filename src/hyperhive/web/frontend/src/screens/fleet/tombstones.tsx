// Destroyed agents whose state is kept: bring one back, or put its state away for good.
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { asApiError, request, type ApiError } from "../../lib/api";
import { bytes } from "../../lib/format";
import type { Tombstone } from "../../lib/protocol";
import { Age, Button, ErrorBox, Section, Text, TypedNameDialog } from "../../ui";
import "./tombstones.css";

export function Tombstones({ tombstones }: { tombstones: readonly Tombstone[] }): VNode | null {
  if (tombstones.length === 0) return null;
  return (
    <Section title="Destroyed, state kept" count={tombstones.length}>
      <ul class="tombstones">
        {tombstones.map((each) => (
          <Stone key={each.name} stone={each} />
        ))}
      </ul>
    </Section>
  );
}

function Stone({ stone }: { stone: Tombstone }): VNode {
  const [purging, setPurging] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const { name } = stone;
  const restore = (): void => {
    setBusy(true);
    setError(undefined);
    request({ cmd: "restore", name }).catch((failed: unknown) => {
      setError(asApiError(failed));
      setBusy(false);
    });
  };
  return (
    <li class="tombstone">
      <span class="agent-name">
        <Text text={name} />
      </span>
      <span class="muted">
        {bytes(stone.size_bytes)}
        {stone.destroyed_at !== undefined && (
          <>
            {" · "}
            <Age at={stone.destroyed_at} prefix="destroyed" sentence />
          </>
        )}
      </span>
      <span class="tombstone-actions">
        <Button small icon="undo" busy={busy} onClick={restore}>
          Restore
        </Button>
        <Button small kind="danger" icon="trash" onClick={() => setPurging(true)}>
          Purge…
        </Button>
      </span>
      {error && <ErrorBox error={error} />}
      {purging && (
        <TypedNameDialog
          title={`Purge ${name}`}
          phrase={name}
          confirm="Purge"
          lost={[`its files, home and memory (${bytes(stone.size_bytes)})`, "its CLI's session and login", "its event history"]}
          kept={["messages and decisions that name it"]}
          onConfirm={() => request({ cmd: "destroy", name, purge: true })}
          onClose={() => setPurging(false)}
        />
      )}
    </li>
  );
}
