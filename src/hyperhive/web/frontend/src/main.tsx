// Where the pages begin.
import { render } from "preact";
import { Shell } from "./app/shell";
import { listenToKeys } from "./lib/keys";
import { listen } from "./lib/router";
import { applyTheme } from "./lib/settings";
import { startStream } from "./lib/stream";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/ui/index.css";

applyTheme();
listen();
listenToKeys();
startStream();
render(<Shell />, document.getElementById("app")!);
