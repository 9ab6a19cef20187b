// What waits for the operator, in a few words behind its agent's name. Pure.
import type { NeedItem } from "./hive-state";
import { oneLine } from "./visible";

/** "asks: Which database?", "wants to use Bash", "proposes #3": how an agent that needs the operator goes on. */
export function briefly(item: NeedItem): string {
  switch (item.kind) {
    case "question":
      return item.question.tool ? `wants to use ${oneLine(item.question.tool.name)}` : `asks: ${oneLine(item.question.question.slice(0, 160))}`;
    case "approval":
      return `proposes #${item.approval.id}`;
    case "login":
      return "is not logged in";
    case "failed":
      return "has failed";
  }
}
