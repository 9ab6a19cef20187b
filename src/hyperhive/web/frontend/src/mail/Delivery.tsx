/* How far a message has come, as a chip. */

import type { JSX } from "preact";
import type { MessageStateName } from "../lib/protocol";
import { Link } from "../lib/router";
import { Chip } from "../ui";
import { STATES } from "./words";

export function Delivery({ state, to, turn, note }: { state: MessageStateName; to: string; turn?: number | undefined; note?: string | undefined }): JSX.Element {
  if (state === "acked" && note === "dropped") return <Chip title="Taken back, or put away for good: nobody works it">dropped</Chip>;
  const { meaning, tone } = STATES[state];
  const word = to === "operator" && state === "pending" ? "in your inbox" : STATES[state].word;
  const chip = <Chip tone={tone} title={note ? `${meaning}: ${note}` : meaning}>{turn !== undefined && state === "acked" ? `${word} in turn ${turn}` : word}</Chip>;
  if (turn === undefined || to === "operator") return chip;
  return <Link href={`/agents/${encodeURIComponent(to)}/t/${turn}`} class="delivery-link">{chip}</Link>;
}
