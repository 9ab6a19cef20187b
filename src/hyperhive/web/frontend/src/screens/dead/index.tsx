/* Dead letters: what was given up and why; each can have another life, or be put away for good. */

import type { JSX } from "preact";
import type { ScreenProps } from "../../app/routes";
import { request } from "../../lib/api";
import { plural } from "../../lib/format";
import { useActions } from "../../lib/keys";
import { useLoad } from "../../lib/load";
import type { DeadLetter } from "../../lib/protocol";
import { setQuery } from "../../lib/router";
import { facts } from "../../lib/store";
import { Body } from "../../mail/Body";
import { Dead } from "../../mail/Dead";
import { summary } from "../../mail/words";
import { Age, AgentLink, Chip, Empty, ErrorBox, Loading, Page, Text } from "../../ui";
import "../../mail/mail.css";

export default function Screen({ query }: ScreenProps): JSX.Element {
  const loaded = useLoad(async (signal) => (await request({ cmd: "dead", limit: 500 }, { signal })).dead, [facts.value?.dead]);
  const open = Number(query["id"]);
  const rows = loaded.value ?? [];
  const at = rows.findIndex((row) => row.id === open);
  const go = (to: number): void => setQuery({ id: rows[to] ? String(rows[to].id) : undefined });
  useActions(
    [
      { id: "dead.next", title: "Next dead letter", section: "Dead letters", keys: "j", hidden: true, run: () => go(Math.min(at + 1, rows.length - 1)) },
      { id: "dead.previous", title: "Previous dead letter", section: "Dead letters", keys: "k", hidden: true, run: () => go(Math.max(at - 1, 0)) },
    ],
    [rows, at],
  );
  return (
    <Page title="Dead letters" lead="Messages that were given up: their turns failed too often, were cancelled, or you ended their chain.">
      {loaded.error ? <ErrorBox error={loaded.error} retry={loaded.reload} /> : null}
      {loaded.value === undefined ? (loaded.error ? null : <Loading lines={6} />) : rows.length === 0 ? (
        <Empty title="No message was given up" icon="dead" command="hyperhive dead" />
      ) : (
        <div class="mail-list" role="list">
          {rows.map((row) => <Letter key={row.id} row={row} open={row.id === open} onToggle={() => setQuery({ id: row.id === open ? undefined : String(row.id) })} onDone={loaded.reload} />)}
        </div>
      )}
    </Page>
  );
}

function Letter({ row, open, onToggle, onDone }: { row: DeadLetter; open: boolean; onToggle: () => void; onDone: () => void }): JSX.Element {
  return (
    <div class={`mail${open ? " open current" : ""}`} role="listitem">
      <button type="button" class="mail-row" aria-expanded={open} onClick={onToggle}>
        <span class="mail-who"><b><Text text={row.from} line /></b> <span class="muted">→</span> <Text text={row.to} line /></span>
        <span class="mail-line"><Text text={`${row.reason} — ${summary(row.from, row.body)}`} line /></span>
        <span class="mail-side">{row.tries ? <Chip tone="needs" title={`It made ${plural(row.tries, "turn")} fail`}>{`${row.tries}×`}</Chip> : null}</span>
        <span class="mail-side"><Age at={row.dead_at} /></span>
      </button>
      {open ? (
        <div class="mail-full">
          <p class="mail-meta"><span>{`#${row.id}`}</span><span><AgentLink name={row.from} /> → <AgentLink name={row.to} /></span><span>sent <Age sentence at={row.at} /></span><span>given up <Age sentence at={row.dead_at} /></span></p>
          <Body id={row.id} from={row.from} body={row.body} />
          <Dead id={row.id} to={row.to} note={row.reason} onDone={onDone} />
        </div>
      ) : null}
    </div>
  );
}
