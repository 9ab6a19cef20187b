// What surrounds every screen: navigation, the state of the line, the screen itself (loaded when first opened), toasts,
// palette, and the few actions that are everywhere.
import { signal } from "@preact/signals";
import { Component, type ComponentChildren, type VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, asApiError, logout, signedIn } from "../lib/api";
import { useActions, type Action } from "../lib/keys";
import { announcement, startNotifications } from "../lib/notifications";
import { Link, navigate, place } from "../lib/router";
import { settings } from "../lib/settings";
import { startVisit } from "../lib/visit";
import { hive, hiveError, startStore } from "../lib/store";
import { connection, retryNow } from "../lib/stream";
import { Login } from "../screens/login";
import { Empty, ErrorBox, Loading, Page, toast, undoLast } from "../ui";
import { Toasts } from "../ui/toast";
import { LineBanner, NewBuildBanner } from "./banners";
import { BottomTabs, GROUPS, Sidebar } from "./nav";
import { openHelp, openPalette, Overlays } from "./palette";
import { find, moved, type RouteDef, type Screen } from "./routes";

const loaded = signal<ReadonlyMap<RouteDef["load"], Screen>>(new Map());

function useScreen(route: RouteDef | undefined): { screen?: Screen | undefined; error?: ApiError | undefined } {
  const [error, setError] = useState<ApiError>();
  const load = route?.load;
  const live = connection.value.state === "live";
  useEffect(() => {
    // The page anew, not the chunk alone: what of it failed to load (its styles, say) is not asked for a second time.
    if (live && error?.code === "unreachable") location.reload();
  }, [live, error]);
  useEffect(() => {
    setError(undefined);
    if (!load || loaded.peek().has(load)) return undefined;
    let left = false;
    load().then(
      (module) => (loaded.value = new Map(loaded.peek()).set(load, module.default)),
      // Nobody answers; or the chunk is gone, because the server was updated under this page.
      (failed: unknown) => left || setError(/^(live|connecting)$/.test(connection.peek().state) ? asApiError(failed) : new ApiError(0, "unreachable", "The hive did not answer, and this browser does not have the screen yet.", "It opens by itself once the connection is back.")),
    );
    return () => void (left = true);
  }, [load]);
  return { screen: load && loaded.value.get(load), error };
}

/** Whoever stood on what the new screen replaced goes on at its beginning, not at the beginning of the page. */
function useFocusKept(path: string): void {
  const before = useRef(path);
  useEffect(() => {
    if (before.current === path) return;
    before.current = path;
    if (document.activeElement === null || document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
  }, [path]);
}

/** A screen that throws shows what happened, and leaves the rest of the page alone. */
class Guard extends Component<{ children: ComponentChildren; at: string }, { error?: Error; at: string }> {
  override state: { error?: Error; at: string } = { at: "" };
  static override getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }
  override componentDidUpdate(before: { at: string }): void {
    if (before.at !== this.props.at && this.state.error) this.setState({ error: undefined as never });
  }
  override componentDidCatch(error: Error): void {
    console.error(error);
  }
  override render(): ComponentChildren {
    if (!this.state.error) return this.props.children;
    return (
      <Page title="This screen failed">
        <ErrorBox error={asApiError(this.state.error)} retry={() => location.reload()} />
      </Page>
    );
  }
}

const GO: readonly [string, string][] = [
  ["agents", "g a"],
  ["questions", "g q"],
  ["approvals", "g p"],
  ["messages", "g m"],
  ["inbox", "g i"],
  ["stats", "g s"],
  ["needs-you", "g n"],
  ["logs", "g l"],
];

const EVERYWHERE: Action[] = [
  ...GROUPS.flatMap((group) => group.entries).map((entry): Action => {
    const keys = GO.find(([id]) => id === entry.id)?.[1];
    return { id: `go:${entry.id}`, title: `Go to ${entry.title.toLowerCase()}`, section: "Go", ...(keys && { keys }), run: () => navigate(entry.href) };
  }),
  { id: "palette", title: "Search and commands", keys: "mod+k", section: "Everywhere", hidden: true, run: openPalette },
  { id: "help", title: "Keys and help", keys: "?", section: "Everywhere", run: openHelp },
  { id: "search", title: "Search", keys: "/", section: "Everywhere", run: focusSearch },
  { id: "undo", title: "Undo", keys: "u", section: "Everywhere", hidden: true, run: () => void undoLast() },
  { id: "times", title: "Absolute times", keys: "t", section: "Everywhere", run: () => (settings.absoluteTimes.value = !settings.absoluteTimes.value) },
  { id: "back", title: "Back", keys: "o", section: "Everywhere", hidden: true, run: () => history.back() },
  { id: "theme:light", title: "Light theme", section: "Settings", run: () => (settings.theme.value = "light") },
  { id: "theme:dark", title: "Dark theme", section: "Settings", run: () => (settings.theme.value = "dark") },
  { id: "theme:auto", title: "Theme of the system", section: "Settings", run: () => (settings.theme.value = "auto") },
  { id: "logout", title: "Sign out of this browser", section: "Settings", run: () => void logout().catch((error: unknown) => toast(asApiError(error).detail, { tone: "failed" })) },
];

/** A screen's own search field, else the search screen. */
function focusSearch(): void {
  const field = document.querySelector<HTMLInputElement>("main [data-search]");
  if (field) {
    field.focus();
    field.select();
  } else navigate("/search");
}

export function Shell(): VNode {
  if (!signedIn.value || place.value.path === "/login") return <Login />;
  return <SignedIn />;
}

function SignedIn(): VNode {
  useEffect(startStore, []);
  useEffect(startNotifications, []);
  useEffect(startVisit, []);
  useActions(EVERYWHERE);
  const { path, query } = place.value;
  const elsewhere = moved(path);
  useEffect(() => {
    if (elsewhere) navigate(elsewhere + location.search + location.hash, { replace: true });
  }, [elsewhere]);
  const found = find(path);
  const { screen: Shown, error } = useScreen(found?.route);
  const nav = found?.route.nav ?? "";
  useFocusKept(path);
  return (
    <div class="shell">
      <a class="skip" href="#main">
        Skip to content
      </a>
      <Sidebar current={nav} />
      <div class="stage">
        <LineBanner />
        <NewBuildBanner />
        <main id="main" tabIndex={-1}>
          <Guard at={path}>
            {!found ? (
              <Page title="Not found">
                <Empty title="There is no such page" icon="question">
                  <p>
                    Nothing is at <code>{path}</code>.
                  </p>
                  <Link href="/">All agents</Link>
                </Empty>
              </Page>
            ) : error ? (
              <Page title={found.route.title}>
                <ErrorBox error={error} title="This screen could not be loaded." retry={error.code === "unreachable" ? retryNow : () => location.reload()} />
              </Page>
            ) : Shown ? (
              <Ready title={found.route.title}>
                <Shown key={found.route.pattern.split("/")[1]} params={found.params} query={query} />
              </Ready>
            ) : (
              <Page title={found.route.title}>
                <Loading lines={8} />
              </Page>
            )}
          </Guard>
        </main>
      </div>
      <BottomTabs current={nav} />
      <p class="sr" role="status">
        {announcement.value}
      </p>
      <Toasts />
      <Overlays />
    </div>
  );
}

/** Screens may rely on the first snapshot being there. */
function Ready({ title, children }: { title: string; children: ComponentChildren }): VNode {
  if (hive.value !== undefined) return <>{children}</>;
  return (
    <Page title={title}>
      {hiveError.value ? <ErrorBox error={hiveError.value} title="The hive's state could not be loaded; trying again." retry={() => location.reload()} /> : <Loading lines={8} />}
    </Page>
  );
}
