// What is wrong with the hive as a whole: low disk, a forge that lags, ports that collide, agents without isolation.
import type { VNode } from "preact";
import { plural } from "../../lib/format";
import type { ContainerView } from "../../lib/protocol";
import { setQuery } from "../../lib/router";
import { facts } from "../../lib/store";
import { Banner, Button, Sentence, Text } from "../../ui";

export function FleetBanners({ agents }: { agents: readonly ContainerView[] }): VNode | null {
  const hive = facts.value;
  const unisolated = agents.filter((agent) => agent.isolation === "none" || agent.isolation === "process");
  const collisions = colliding(agents);
  if (!hive) return null;
  return (
    <>
      {hive.low_disk && (
        <Banner tone="failed" icon="alert">
          <strong>The disk is nearly full.</strong> <Sentence text={hive.low_disk} />
        </Banner>
      )}
      {hive.forge_behind.map((each, i) => (
        <Banner key={i} tone="needs" icon="alert">
          <strong>The forge is behind.</strong> <Text text={Object.values(each).join(" · ")} line />
        </Banner>
      ))}
      {collisions.map(([port, names]) => (
        <Banner key={port} tone="failed" icon="alert">
          <strong>Port {port} is wanted by {names.join(" and ")}.</strong> Only one of their pages can be served there. Spawn one of them under another name, or turn page ports off.
        </Banner>
      ))}
      {hive.warnings.map((warning) => (
        <Banner key={warning} tone="needs" icon="alert">
          <Sentence text={warning} />
        </Banner>
      ))}
      {unisolated.length > 0 && hive.warnings.length === 0 && (
        <Banner tone="needs" icon="shield" action={<Button small onClick={() => setQuery({ q: `isolation:${unisolated[0]!.isolation}` })}>Show</Button>}>
          <strong>{plural(unisolated.length, "agent runs", "agents run")} without isolation:</strong> they can do whatever your user can do on this machine.
        </Banner>
      )}
    </>
  );
}

/** Page ports that more than one agent has. */
export function colliding(agents: readonly ContainerView[]): [number, string[]][] {
  const byPort = new Map<number, string[]>();
  for (const agent of agents) if (agent.page_port !== undefined) byPort.set(agent.page_port, [...(byPort.get(agent.page_port) ?? []), agent.name]);
  return [...byPort].filter(([, names]) => names.length > 1);
}
