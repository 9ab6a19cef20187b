// How the pages are built: hashed assets with no inline script or style (the server's CSP refuses both), one chunk a screen.
import { defineConfig } from "vitest/config";

const hive = process.env["HIVE"] ?? "http://localhost:7000";
const served = ["/api", "/session", "/stream", "/dashboard", "/agents/", "/op-send", "/approve", "/deny"];

export default defineConfig({
  base: "/",
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // a data: script or font would need a wider CSP
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: {
      output: {
        // One CSS-free chunk for what every screen needs, so that a change of a screen leaves it cached.
        manualChunks: (id) => (/node_modules\/(preact|@preact)\//.test(id) ? "preact" : undefined),
      },
    },
  },
  worker: { format: "es" },
  server: {
    host: "127.0.0.1",
    proxy: Object.fromEntries(
      served.map((path) => [
        path,
        {
          target: hive,
          bypass: (request) => (request.headers.accept?.includes("text/html") ? "/index.html" : undefined),
          headers: { origin: hive, host: new URL(hive).host },
        },
      ]),
    ),
  },
  test: { include: ["src/**/*.test.ts", "src/**/*.test.tsx"], environment: "node", pool: "threads", testTimeout: 60_000 },
});
