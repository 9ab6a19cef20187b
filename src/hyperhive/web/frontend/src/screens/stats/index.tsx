// Statistics: of one agent (`/agents/NAME/stats?window=`), or of the hive (`/stats?window=`).
import { setQuery } from "../../lib/router";
import { AgentStats } from "./agent-stats";
import { WINDOWS, type Window } from "./figures";
import { HiveStats } from "./hive-stats";
import "./stats.css";

interface Props {
  params: Readonly<Record<string, string>>;
  query: Readonly<Record<string, string>>;
}

export default function Screen({ params, query }: Props) {
  const name = params["name"];
  const usual: Window = name ? "24h" : "7d";
  const window = WINDOWS.find((each) => each.value === query["window"])?.value ?? usual;
  const choose = (chosen: Window): void => setQuery({ window: chosen === usual ? undefined : chosen });
  return name ? <AgentStats key={name} name={name} window={window} choose={choose} /> : <HiveStats window={window} choose={choose} />;
}
