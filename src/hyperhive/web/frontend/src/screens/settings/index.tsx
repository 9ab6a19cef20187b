// What this browser remembers of its operator's taste, and when it may make itself heard.
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { logout } from "../../lib/api";
import { settings, type Theme } from "../../lib/settings";
import { agentNames } from "../../lib/store";
import { Button, Card, Field, Page, Section, Segmented, Switch, TextInput } from "../../ui";
import "./settings.css";

export default function Screen(): VNode {
  return (
    <Page title="Settings" lead="Of this browser. The hive's own are in hive.toml.">
      <Section title="Look">
        <Card class="stack">
          <div class="row">
            <span class="field-label">Theme</span>
            <Segmented<Theme>
              label="Theme"
              options={[
                { value: "auto", label: "As the system" },
                { value: "light", label: "Light" },
                { value: "dark", label: "Dark" },
              ]}
              value={settings.theme.value}
              onChange={(theme) => (settings.theme.value = theme)}
            />
          </div>
          <Switch checked={settings.absoluteTimes.value} onChange={(on) => (settings.absoluteTimes.value = on)} label="Times of day instead of ages" />
          <Switch checked={settings.wrap.value} onChange={(on) => (settings.wrap.value = on)} label="Wrap long lines in logs and diffs" />
        </Card>
      </Section>
      <Section title="Keyboard">
        <Card>
          <Switch checked={settings.singleKeys.value} onChange={(on) => (settings.singleKeys.value = on)} label="Keys without Ctrl or Cmd" hint="j, k, /, g a and the like. The palette (Ctrl-K) works either way." />
        </Card>
      </Section>
      <Notifications />
      <Section title="Session">
        <Card>
          <Button icon="lock" onClick={() => void logout().catch(() => undefined)}>
            Sign out of this browser
          </Button>
        </Card>
      </Section>
    </Page>
  );
}

function Notifications(): VNode {
  const [blocked, setBlocked] = useState(typeof Notification === "undefined" || Notification.permission === "denied");
  const turn = async (on: boolean): Promise<void> => {
    if (on && Notification.permission !== "granted" && (await Notification.requestPermission()) !== "granted") {
      setBlocked(true);
      return;
    }
    settings.notifications.value = on;
  };
  const test = (): void => void new Notification("hive", { body: "This is how it tells you that an agent needs you." });
  return (
    <Section title="Notifications">
      <Card class="stack">
        <Switch checked={settings.notifications.value && !blocked} onChange={(on) => void turn(on)} label="Desktop notifications" hint="For questions, approvals, logins and failures that you have not seen for 15 seconds. Never for mere status." />
        {blocked && <p class="field-error">This browser does not allow them for this address. Allow them in its site settings.</p>}
        {settings.notifications.value && !blocked && (
          <div>
            <Button small icon="bell" onClick={test}>
              Send a test
            </Button>
          </div>
        )}
        <Field label="Quiet hours" hint="22:00-07:00, in this browser's time; empty for none.">
          <TextInput value={settings.quietHours.value} onValue={(hours) => (settings.quietHours.value = hours)} placeholder="22:00-07:00" />
        </Field>
        <fieldset class="muted-agents">
          <legend class="field-label">Never notify of</legend>
          <div class="muted-grid">
            {agentNames.value.map((name) => {
              const muted = settings.muted.value.includes(name);
              return <Switch key={name} checked={muted} label={name} onChange={(on) => (settings.muted.value = on ? [...settings.muted.value, name] : settings.muted.value.filter((each) => each !== name))} />;
            })}
          </div>
        </fieldset>
        <p class="field-hint">Away from the screen the hive tells you by ntfy or webhook: see notices in hive.toml.</p>
      </Card>
    </Section>
  );
}
