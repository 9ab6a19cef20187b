/* One message of the flow: a line, and where it is open all of it with what can be done about it. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { plural } from "../../lib/format";
import { Link } from "../../lib/router";
import { questions } from "../../lib/store";
import { Body } from "../../mail/Body";
import { Compose } from "../../mail/Compose";
import { Dead } from "../../mail/Dead";
import { Delivery } from "../../mail/Delivery";
import { FileRefs } from "../../mail/FileRefs";
import type { FlowRow } from "../../mail/flow";
import { canTakeBack, takeBack } from "../../mail/take-back";
import { summary } from "../../mail/words";
import { Age, AgentLink, Banner, Button, Chip, Text } from "../../ui";

export function MessageRow({ row, open, current, onToggle }: { row: FlowRow; open: boolean; current: boolean; onToggle: () => void }): JSX.Element {
  const element = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (open) element.current?.scrollIntoView({ block: "nearest" });
  }, [open]);
  return (
    <div ref={element} class={`mail${open ? " open" : ""}${current ? " current" : ""}`} role="listitem" data-message={row.id}>
      <button type="button" class="mail-row" aria-expanded={open} onClick={onToggle}>
        <span class="mail-who"><b><Text text={row.from} line /></b> <span class="muted" aria-label="to">→</span> <Text text={row.to} line /></span>
        <span class="mail-line"><Text text={summary(row.from, row.body)} line /></span>
        <span class="mail-side">
          {row.file_refs.length > 0 ? <Chip icon="audit" title={plural(row.file_refs.length, "file")}>{String(row.file_refs.length)}</Chip> : null}
          {row.tries > 0 ? <Chip tone="needs" title={`It made ${plural(row.tries, "turn")} fail`}>{`${row.tries}×`}</Chip> : null}
          {row.state === "acked" ? null : <Delivery state={row.state} to={row.to} note={row.note} />}
        </span>
        <span class="mail-side"><Age at={row.at} /></span>
      </button>
      {open ? <Whole row={row} /> : null}
    </div>
  );
}

function Whole({ row }: { row: FlowRow }): JSX.Element {
  const other = row.from === "operator" ? row.to : row.from;
  return (
    <div class="mail-full">
      <p class="mail-meta">
        <span>{`#${row.id}`}</span>
        <span><AgentLink name={row.from} /> → <AgentLink name={row.to} /></span>
        <span>sent <Age sentence at={row.at} /></span>
        {row.delivered_at === undefined ? null : <span>delivered <Age sentence at={row.delivered_at} /></span>}
        {row.acked_at === undefined ? null : <span>read <Age sentence at={row.acked_at} /></span>}
        <Delivery state={row.state} to={row.to} turn={row.turn} note={row.note} />
        <Link href={`/messages?agent=${encodeURIComponent(row.from)}&with=${encodeURIComponent(row.to)}&id=${row.id}&before=${row.id + 50}`}>their thread</Link>
      </p>
      <Body id={row.id} from={row.from} body={row.body} cut={row.cut} />
      <FileRefs message={row.id} files={row.file_refs} />
      {canTakeBack(row) && row.to !== "operator" ? <Button icon="close" onClick={() => void takeBack(row.id)}>Take it back</Button> : null}
      {row.state === "held" ? <Held row={row} /> : null}
      {row.state === "dead" ? <Dead id={row.id} to={row.to} note={row.note} /> : null}
      {other === "system" || other === "operator" ? null : <Compose draft={`thread.${other}`} to={other} />}
    </div>
  );
}

/** Whether a held chain goes on is asked in a question of the hive's. */
function Held({ row }: { row: FlowRow }): JSX.Element {
  const storms = questions.value.filter((one) => one.asker === "system" && one.options.includes("release") && one.question.includes(row.from));
  return (
    <Banner
      tone="needs"
      icon="alert"
      action={<Link class="btn btn-default" href={storms[0] ? `/questions/${storms[0].id}` : "/questions"}>Release or drop</Link>}
    >
      Held as a possible reply storm{row.note ? <>: <Text text={row.note} /></> : "."} It waits, with the rest of its chain, for your word.
    </Banner>
  );
}
