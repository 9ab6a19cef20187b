// Signing in by a link's token, which stays in the URL's fragment: no server log, no referrer ever has it.
import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { asApiError, login, signedIn, type ApiError } from "../lib/api";
import { navigate, place } from "../lib/router";
import { Button, ErrorBox, Icon } from "../ui";
import "./login.css";

/** Where to go once signed in: what was asked for before. */
const goal = (): string => {
  const next = place.value.query["to"];
  return next?.startsWith("/") && !next.startsWith("//") ? next : "/";
};

/** A whole link may be pasted where only the token is asked for. */
export function tokenOf(text: string): string {
  const trimmed = text.replace(/\s+/g, "");
  const hash = trimmed.indexOf("#");
  return hash < 0 ? trimmed : trimmed.slice(hash + 1);
}

export function Login(): VNode {
  const { path, hash } = place.value;
  const [pasted, setPasted] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const tried = useRef("");

  const go = (token: string): void => {
    if (token === "") return;
    tried.current = token;
    setBusy(true);
    setError(undefined);
    login(token).then(
      () => {
        navigate(goal(), { replace: true });
      },
      (failed: unknown) => {
        setError(asApiError(failed));
        setBusy(false);
        if (location.hash) navigate("/login", { replace: true });
      },
    );
  };

  useEffect(() => {
    if (path !== "/login") {
      // Not signed in: come back here afterwards.
      const next = path + location.search + location.hash;
      navigate(next === "/" ? "/login" : `/login?to=${encodeURIComponent(next)}`, { replace: true });
    } else if (hash && hash !== tried.current) go(hash);
    else if (!hash && signedIn.value) navigate(goal(), { replace: true });
  }, [path, hash]);

  return (
    <main class="login" id="main">
      <div class="login-card">
        <svg width="36" height="36" viewBox="0 0 32 32" aria-hidden="true">
          <path class="brand-cell" d="M16 2.5 27.7 9.25v13.5L16 29.5 4.3 22.75V9.25z" />
          <path class="login-hole" d="M16 9.5 21.600 12.750v6.500L16 22.500l-5.600-3.250v-6.500z" />
        </svg>
        <h1>Sign in to the hive</h1>
        {busy ? (
          <p class="muted" role="status">
            Signing in…
          </p>
        ) : (
          <>
            <p class="muted">On the machine that the hive runs on, this prints a new link. It works once, for ten minutes.</p>
            <code class="login-command">
              <Icon name="session" size={14} /> hyperhive open
            </code>
            {error && <LoginError error={error} />}
            <form
              class="login-form"
              onSubmit={(event) => {
                event.preventDefault();
                go(tokenOf(pasted));
              }}
            >
              <label class="field-label" for="token">
                Link or token
              </label>
              <input id="token" class="input mono" autocomplete="off" autocapitalize="off" spellcheck={false} value={pasted} onInput={(event) => setPasted(event.currentTarget.value)} />
              <Button kind="primary" type="submit" disabled={tokenOf(pasted) === ""}>
                Sign in
              </Button>
            </form>
          </>
        )}
      </div>
    </main>
  );
}

function LoginError({ error }: { error: ApiError }): VNode {
  if (error.status === 0) return <ErrorBox error={error} />;
  return <ErrorBox error={error} title="That link does not sign you in." />;
}
