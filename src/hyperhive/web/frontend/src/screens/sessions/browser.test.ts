import { expect, it } from "vitest";
import { browserOf } from "./browser";

it("names a browser by what it calls itself", () => {
  expect(browserOf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36")).toBe("Chrome on Linux");
  expect(browserOf("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605 Version/19.0 Mobile Safari/604")).toBe("Safari on iPhone");
  expect(browserOf("curl/8.5")).toBe("curl/8.5");
  expect(browserOf("")).toBe("a browser that does not say");
});
