// The thin lines above a screen: the stream is down (after three silent seconds), the server has a newer build.
import { signal } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { anyDraft } from "../lib/drafts";
import { connection, retryNow } from "../lib/stream";
import { now } from "../lib/time";
import { Banner, Button } from "../ui";

const SILENT_MS = 3000;

export function LineBanner(): VNode {
  const line = connection.value;
  const lost = useRef(false);
  // Read the ticker, so that the countdown runs.
  const at = Math.max(now.value * 1000, Date.now());
  // The region is always there: a reader of the screen is told of what is put into it, not of what comes with it.
  if (line.state === "live" || at - line.since < SILENT_MS) return <div role="status">{line.state === "live" && lost.current && <span class="sr">Connected again.</span>}</div>;
  lost.current = true;
  const wait = line.nextAt === undefined ? 0 : Math.max(0, Math.ceil((line.nextAt - at) / 1000));
  const offline = typeof navigator !== "undefined" && !navigator.onLine;
  const what = offline ? "No network." : line.why === "silent" ? "The hive fell silent." : "The connection to the hive is lost.";
  return (
    <div role="status">
      <Banner tone="needs" icon="refresh" action={<Button small onClick={retryNow}>Retry now</Button>}>
        {what} What you see may be old.{" "}
        <span aria-hidden="true">
          {line.attempt > 0 && `Attempt ${line.attempt}. `}
          {wait > 0 ? `Next try in ${wait}s.` : "Trying…"}
        </span>
      </Banner>
    </div>
  );
}

const newer = signal(false);

/** The script that this page runs, by its hashed name. */
const own = (): string | undefined => document.querySelector<HTMLScriptElement>("script[type=module][src]")?.getAttribute("src") ?? undefined;

async function compareBuilds(): Promise<void> {
  const mine = own();
  if (mine === undefined || !mine.startsWith("/assets/")) return;
  try {
    const page = await (await fetch("/", { cache: "no-store", headers: { accept: "text/html" } })).text();
    const served = /<script[^>]+src="(\/assets\/[^"]+)"/.exec(page)?.[1];
    newer.value = served !== undefined && served !== mine;
  } catch {
    // The line is down; the next time it stands we look again.
  }
}

export function NewBuildBanner(): VNode | null {
  const live = connection.value.state === "live";
  useEffect(() => {
    if (live) void compareBuilds();
  }, [live]);
  if (!newer.value) return null;
  return (
    <Banner tone="accent" icon="update" action={<Button small onClick={() => location.reload()}>Refresh to update</Button>}>
      The hive serves a newer version of these pages.{anyDraft() && " What you are writing is kept."}
    </Banner>
  );
}
