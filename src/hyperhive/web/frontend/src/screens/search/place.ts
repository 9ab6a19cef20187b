/* Where something that was found is shown among its neighbours. Pure. */

import type { Schemas } from "../../lib/protocol";

export type Hit = Schemas["SearchHit"];

export function placeOf(hit: Hit): string {
  switch (hit.kind) {
    case "message": return `/messages?id=${hit.id}&before=${hit.id + 20}`;
    case "question": return `/questions/${hit.id}`;
    case "decision": return `/audit?before=${hit.id + 1}`;
    default: {
      const agent = `/agents/${encodeURIComponent(hit.agent ?? "")}`;
      const eid = hit.eid ?? hit.id;
      return hit.turn === undefined ? `${agent}#e${eid}` : `${agent}/t/${hit.turn}#e${eid}`;
    }
  }
}
