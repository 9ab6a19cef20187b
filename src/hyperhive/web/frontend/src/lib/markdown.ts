// Somebody's markdown as elements that can do no harm. The only place where text becomes markup.
//
// Two walls: markdown-it makes no raw HTML and no images, and links only where they say http, https or mailto; DOMPurify
// then keeps a short list of elements and attributes. The CSP's Trusted Types policy `hive-markdown` is used here alone,
// and nothing is assigned to innerHTML: the result is a fragment. This module is a chunk of its own; see `markdown-view`.
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";
import { visible } from "./visible";

const TAGS = ["a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"];
const LINK = /^(https?:\/\/|mailto:)/i;

const parser = new MarkdownIt({ html: false, linkify: true, breaks: true });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false }); // `app.py` is a file, not a site in Paraguay
parser.validateLink = (url: string): boolean => LINK.test(url.trim());
parser.renderer.rules["image"] = (tokens, at) => {
  const token = tokens[at];
  return parser.utils.escapeHtml(`[image: ${token?.content || String(token?.attrGet("src") ?? "")}]`);
};

/** The first wall alone: HTML without raw markup, images, or links elsewhere. For tests. */
export function toHtml(text: string): string {
  return parser.render(visible(text));
}

const policy = (globalThis as { trustedTypes?: TrustedTypesFactory }).trustedTypes?.createPolicy("hive-markdown", {
  createHTML: (html: string) => html, // what goes in here comes out of DOMPurify's parser, not into the page
  createScriptURL: () => {
    throw new TypeError("no scripts");
  },
});

interface TrustedTypesFactory {
  createPolicy(name: string, rules: { createHTML(text: string): string; createScriptURL(text: string): string }): unknown;
}

let hooked = false;

/** The text as a fragment, ready to be put into the page. */
export function render(text: string): DocumentFragment {
  if (!hooked) {
    hooked = true;
    DOMPurify.addHook("afterSanitizeAttributes", (node) => {
      if (node.nodeName !== "A") return;
      if (!LINK.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
      node.setAttribute("rel", "noopener noreferrer");
      node.setAttribute("target", "_blank");
    });
  }
  return DOMPurify.sanitize(toHtml(text), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ["href", "start", "rel", "target"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
    ...(policy ? { TRUSTED_TYPES_POLICY: policy as never } : {}),
  });
}
