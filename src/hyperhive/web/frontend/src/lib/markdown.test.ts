// The first wall against markup in messages; the whole of it is tried in a real browser (tests/web/test_markdown.py).
import { describe, expect, it } from "vitest";
import { toHtml } from "./markdown";

const ATTACKS = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)>",
  "<a href='javascript:alert(1)'>x</a>",
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](java\nscript:alert(1))",
  "[x](&#106;avascript:alert(1))",
  "[x](vbscript:msgbox(1))",
  "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
  "[x](file:///etc/passwd)",
  "[x](/approve/1)",
  "[x](approve/1)",
  "[x](//evil.example/x)",
  "[x](#fragment)",
  "![x](https://evil.example/leak.png)",
  "![x](javascript:alert(1))",
  "[![x](https://evil.example/a.png)](/approve/1)",
  "<javascript:alert(1)>",
  "[x]: javascript:alert(1)\n\n[x]",
  "<style>body{display:none}</style>",
  "<form action=/approve/1><button>Approve</button></form>",
  "`</code><script>alert(1)</script>`",
  "```\"><script>alert(1)</script>\nx\n```",
  "| a |\n|:-:|\n| <img src=x onerror=alert(1)> |",
  "<iframe srcdoc='<script>alert(1)</script>'>",
  "[x](https://a.example/\"onmouseover=alert(1))",
  "\u202Egnp.exe",
];

describe("markdown", () => {
  it("never makes an element or a link out of an attack", () => {
    for (const attack of ATTACKS) {
      const html = toHtml(attack);
      expect(html, attack).not.toMatch(/<(script|img|svg|style|form|iframe|button|input|object|embed|base|meta|link)\b/i);
      expect(html, attack).not.toMatch(/<[^>]*\son\w+\s*=/i);
      for (const found of html.matchAll(/href="([^"]*)"/g)) expect(found[1], attack).toMatch(/^(https?:\/\/|mailto:)/);
    }
  });

  it("keeps what people write", () => {
    expect(toHtml("**bold** `code`")).toBe("<p><strong>bold</strong> <code>code</code></p>\n");
    expect(toHtml("see https://example.org/x")).toContain('<a href="https://example.org/x">');
    expect(toHtml("[mail](mailto:a@example.org)")).toContain("mailto:a@example.org");
    expect(toHtml("edit app.py and example.com")).not.toContain("<a");
    expect(toHtml("![a chart](https://x.example/c.png)")).toContain("[image: a chart]");
  });

  it("shows characters that do not show", () => {
    expect(toHtml("a\u202Eb")).toContain("\\u{202e}");
  });
});
