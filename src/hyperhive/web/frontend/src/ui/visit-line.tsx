// The line in a list between what came since the operator's last visit and what they had before.
import type { VNode } from "preact";
import { lastVisit } from "../lib/visit";
import { Age } from "./basics";

/** `as`: what the list is made of. */
export function VisitLine({ as: Item = "div" }: { as?: "div" | "li" }): VNode {
  return (
    <Item class="visit-line" role="listitem">
      <span>
        New since your last visit, <Age sentence at={lastVisit.value} />
      </span>
    </Item>
  );
}
