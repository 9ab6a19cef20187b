import { describe, expect, it } from "vitest";
import { changeKey, parseDiff } from "./parse";

const ZERO = "0".repeat(40);
const A = "a".repeat(40);
const B = "b".repeat(40);

const CHANGED = `diff --git a/agent.toml b/agent.toml
index ${A}..${B} 100644
--- a/agent.toml
+++ b/agent.toml
@@ -1,3 +1,4 @@ [tools]
 model = "haiku"
-network = "none"
+network = "out"
+packages = ["ripgrep"]
 prompt = "x"
`;

describe("a diff of git's", () => {
  it("is files, hunks and lines with their numbers on both sides", () => {
    const diff = parseDiff(CHANGED);
    expect(diff.files).toHaveLength(1);
    const [file] = diff.files;
    expect(file).toMatchObject({ path: "agent.toml", status: "modified", oldBlob: A, newBlob: B, added: 2, removed: 1 });
    expect(file?.hunks[0]?.section).toBe("[tools]");
    expect(file?.hunks[0]?.lines.map((line) => [line.kind, line.oldNo, line.newNo])).toEqual([
      ["same", 1, 1],
      ["del", 2, undefined],
      ["add", undefined, 2],
      ["add", undefined, 3],
      ["same", 3, 4],
    ]);
    expect(diff.strays).toEqual([]);
  });

  it("takes lines that look like a head for what they are: content", () => {
    const text = `diff --git a/notes b/notes
index ${A}..${B} 100644
--- a/notes
+++ b/notes
@@ -1,2 +1,3 @@
--- a/agent.toml
-@@ -1 +1 @@
++++ b/agent.toml
+diff --git a/x b/x
+@@ -9 +9 @@
`;
    const diff = parseDiff(text);
    expect(diff.files.map((file) => file.path)).toEqual(["notes"]);
    expect(diff.files[0]?.hunks[0]?.lines.map((line) => line.text)).toEqual([
      "-- a/agent.toml",
      "@@ -1 +1 @@",
      "+++ b/agent.toml",
      "diff --git a/x b/x",
      "@@ -9 +9 @@",
    ]);
  });

  it("knows added, deleted, binary and mode-only files", () => {
    const text = `diff --git a/new b/new
new file mode 100644
index ${ZERO}..${B}
--- /dev/null
+++ b/new
@@ -0,0 +1 @@
+hello
\\ No newline at end of file
diff --git a/old b/old
deleted file mode 100644
index ${A}..${ZERO}
--- a/old
+++ /dev/null
@@ -1 +0,0 @@
-bye
diff --git a/pic.png b/pic.png
index ${A}..${B} 100644
Binary files a/pic.png and b/pic.png differ
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
diff --git a/with space b/with space
index ${A}..${B} 100644
--- a/with space\t
+++ b/with space\t
@@ -1 +1 @@
-a
+b
`;
    const diff = parseDiff(text);
    expect(diff.files.map((file) => [file.path, file.status, file.binary])).toEqual([
      ["new", "added", false],
      ["old", "deleted", false],
      ["pic.png", "modified", true],
      ["run.sh", "mode", false],
      ["with space", "modified", false],
    ]);
    expect(diff.files[0]?.hunks[0]?.lines[0]).toMatchObject({ noNewline: true, newNo: 1 });
    expect([diff.added, diff.removed]).toEqual([2, 2]);
  });

  it("keeps carriage returns and separators inside a line", () => {
    const text = CHANGED.replace('"x"', '"x"\r\u2028');
    expect(parseDiff(text).files[0]?.hunks[0]?.lines.at(-1)?.text).toBe('prompt = "x"\r\u2028');
  });

  it("loses no line that fits nowhere", () => {
    const text = `M ${A} ${B} agent.toml\n${CHANGED}rm -rf /\n`;
    expect(parseDiff(text).strays).toEqual([`M ${A} ${B} agent.toml`, "rm -rf /"]);
  });

  it("gives every line back: what is parsed is what was there", () => {
    const file = parseDiff(CHANGED).files[0];
    const marks = { same: " ", add: "+", del: "-" };
    const body = file?.hunks.flatMap((hunk) => hunk.lines.map((line) => marks[line.kind] + line.text)).join("\n");
    expect(CHANGED).toContain(`${body}\n`);
    expect(file?.size).toBe(CHANGED.length);
  });

  it("names a change by both contents", () => {
    const [one] = parseDiff(CHANGED).files;
    const [other] = parseDiff(CHANGED.replace(B, "c".repeat(40))).files;
    expect(one && other && changeKey(one) !== changeKey(other)).toBe(true);
  });
});
