// What can be done to the agents that are selected. The set is named, and frozen when its dialog opens.
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { plural } from "../../lib/format";
import { Button, TypedNameDialog } from "../../ui";
import { forEachAgent } from "./dialogs";

export function Bulk({ names, onDone }: { names: readonly string[]; onDone(): void }): VNode {
  const [destroying, setDestroying] = useState<readonly string[]>();
  return (
    <div class="bulk" role="toolbar" aria-label="Selected agents">
      <strong>{plural(names.length, "agent")} selected</strong>
      <Button small icon="play" onClick={() => void forEachAgent(names, (name) => ({ cmd: "start", name, wait: true }), "starting")}>
        Start
      </Button>
      <Button small icon="stop" onClick={() => void forEachAgent(names, (name) => ({ cmd: "kill", name, wait: true }), "stopping")}>
        Stop
      </Button>
      <Button small icon="update" onClick={() => void forEachAgent(names, (name) => ({ cmd: "update", name }), "rebuilding")}>
        Update
      </Button>
      <Button small kind="danger" icon="trash" onClick={() => setDestroying(names)}>
        Destroy…
      </Button>
      <Button small kind="ghost" class="spread" onClick={onDone}>
        Clear
      </Button>
      {destroying && (
        <TypedNameDialog
          title={`Destroy ${plural(destroying.length, "agent")}`}
          phrase={destroying.length === 1 ? destroying[0]! : `destroy ${destroying.length}`}
          confirm="Destroy"
          lostTitle="Removed"
          lost={["their running environments"]}
          kept={["their files, homes, memories and sessions: each can be restored"]}
          onConfirm={() => forEachAgent(destroying, (name) => ({ cmd: "destroy", name }), "destroying").then(onDone)}
          onClose={() => setDestroying(undefined)}
        >
          <p class="names mono">{destroying.join(", ")}</p>
        </TypedNameDialog>
      )}
    </div>
  );
}
