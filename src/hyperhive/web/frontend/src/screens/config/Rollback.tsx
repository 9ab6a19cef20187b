/*
 * Going back to an earlier deployment: what that would change, then the word. It is carried out as an approval of its
 * own, whose page shows how far it is.
 */

import type { JSX } from "preact";
import { request } from "../../lib/api";
import { useLoad } from "../../lib/load";
import type { Schemas } from "../../lib/protocol";
import { navigate } from "../../lib/router";
import { Banner, ConfirmDialog, Loading } from "../../ui";
import { DiffView, parseDiff } from "../../ui/diff";
import { type Files, diffOf, undone } from "./patch";

interface RollbackProps {
  name: string;
  config: Schemas["AgentConfigPage"];
  target: Schemas["Deployment"];
  onClose: () => void;
}

export function Rollback({ name, config, target, onClose }: RollbackProps): JSX.Element {
  const preview = useLoad((signal) => previewOf(config, target.id, signal), [target.id]);
  return (
    <ConfirmDialog
      title={`Roll ${name} back to #${target.id}?`}
      confirm={`Roll back to #${target.id}`}
      danger
      onClose={onClose}
      onConfirm={async () => {
        const reply = await request({ cmd: "rollback", name, to: target.id });
        if (reply.id !== undefined) navigate(`/approvals/${reply.id}`);
      }}
    >
      <p>Its files become again what they were then, as a new deployment: built, started and checked as any other, and put back where it is not well.</p>
      {preview.value !== undefined ? (
        preview.value === "" ? <Banner tone="muted" icon="info">Its files are the same now: nothing would change.</Banner> : <DiffView text={preview.value} name={`${name}-rollback-${target.id}.diff`} />
      ) : preview.loading ? (
        <Loading lines={4} label="What it would change" />
      ) : (
        <Banner tone="needs" icon="info">What it would change cannot be shown beforehand: a file between is no text, or an old diff is gone. Its approval shows the whole diff.</Banner>
      )}
    </ConfirmDialog>
  );
}

/** The diff from what is deployed to what was: the deployments between, undone one after the other. */
async function previewOf(config: Schemas["AgentConfigPage"], to: number, signal: AbortSignal): Promise<string> {
  const now: Files = new Map((config.deployed?.files ?? []).flatMap((file) => (file.text === undefined ? [] : [[file.path, file.text] as const])));
  let files: Files | undefined = now;
  for (const { id } of config.deployments) {
    if (id <= to || files === undefined) break;
    if (id > (config.deployed?.id ?? 0)) continue;
    const shown = await request({ cmd: "show", id }, { signal });
    files = undone(files, parseDiff(shown.diff));
  }
  if (files === undefined) throw new Error("not known");
  return diffOf(now, files);
}
