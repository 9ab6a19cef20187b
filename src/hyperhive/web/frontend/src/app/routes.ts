// Which screen a URL shows. Each is a chunk of its own, loaded when it is first opened.
import type { ComponentType } from "preact";
import { match, type Params } from "../lib/router";

export interface ScreenProps {
  params: Params;
  query: Params;
}

export type Screen = ComponentType<ScreenProps>;
type Load = () => Promise<{ default: Screen }>;

export interface RouteDef {
  pattern: string;
  /** Which entry of the navigation it belongs to. */
  nav: string;
  title: string;
  load: Load;
}

const agent: Load = () => import("../screens/agent");

export const ROUTES: readonly RouteDef[] = [
  { pattern: "/", nav: "agents", title: "Agents", load: () => import("../screens/fleet") },
  { pattern: "/needs-you", nav: "needs-you", title: "Needs you", load: () => import("../screens/needs-you") },
  { pattern: "/approvals", nav: "approvals", title: "Approvals", load: () => import("../screens/approvals") },
  { pattern: "/approvals/:id", nav: "approvals", title: "Approval", load: () => import("../screens/approvals") },
  { pattern: "/questions", nav: "questions", title: "Questions", load: () => import("../screens/questions") },
  { pattern: "/questions/:id", nav: "questions", title: "Question", load: () => import("../screens/questions") },
  { pattern: "/inbox", nav: "inbox", title: "Inbox", load: () => import("../screens/inbox") },
  { pattern: "/messages", nav: "messages", title: "Messages", load: () => import("../screens/messages") },
  { pattern: "/search", nav: "search", title: "Search", load: () => import("../screens/search") },
  { pattern: "/agents/:name", nav: "agents", title: "Agent", load: agent },
  { pattern: "/agents/:name/t/:turn", nav: "agents", title: "Agent", load: agent },
  { pattern: "/agents/:name/:tab", nav: "agents", title: "Agent", load: agent },
  { pattern: "/stats", nav: "stats", title: "Stats", load: () => import("../screens/stats") },
  { pattern: "/config/:name", nav: "agents", title: "Config", load: () => import("../screens/config") },
  { pattern: "/logs", nav: "logs", title: "Logs", load: () => import("../screens/logs") },
  { pattern: "/logs/:name", nav: "logs", title: "Logs", load: () => import("../screens/logs") },
  { pattern: "/audit", nav: "audit", title: "Audit", load: () => import("../screens/audit") },
  { pattern: "/dead", nav: "dead", title: "Dead letters", load: () => import("../screens/dead") },
  { pattern: "/meta", nav: "meta", title: "Inputs", load: () => import("../screens/meta") },
  { pattern: "/sessions", nav: "sessions", title: "Sessions", load: () => import("../screens/sessions") },
  { pattern: "/settings", nav: "settings", title: "Settings", load: () => import("../screens/settings") },
];

export interface Found {
  route: RouteDef;
  params: Params;
}

/** The screen of a path; "/agents/x/stats" is the statistics page of one agent. */
export function find(path: string): Found | undefined {
  const stats = match("/agents/:name/stats", path);
  if (stats) return { route: { ...ROUTES.find((each) => each.pattern === "/stats")!, nav: "agents", title: "Stats" }, params: stats };
  for (const route of ROUTES) {
    const params = match(route.pattern, path);
    if (params) return { route, params };
  }
  return undefined;
}

/** Where an old or short spelling leads ("/a/NAME" is the agent's page), or undefined. */
export function moved(path: string): string | undefined {
  return path.startsWith("/a/") ? `/agents/${path.slice(3)}` : undefined;
}
