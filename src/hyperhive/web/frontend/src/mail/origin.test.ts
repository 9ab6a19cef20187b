import { describe, expect, it } from "vitest";
import { briefly, placeOf, saidIn, type OriginPage } from "./origin";

const message = { id: 8, from: "bob", to: "alice", at: 5, body: "**Just** ask\nfor it" };
const page = (more: Partial<OriginPage>): OriginPage => ({ kind: "origin", asker: "alice", at: 9, known: true, messages: [], more: 0, ...more });

describe("what led to a question", () => {
  it("is said in one line: the newest message, and how many more there were", () => {
    expect(briefly(page({ messages: [{ ...message, id: 7, from: "carol" }, message], more: 2 }))).toBe("answering bob (and 3 more): “Just ask for it”");
    expect(briefly(page({ messages: [message] }))).toBe("answering bob: “Just ask for it”");
  });

  it("does not say that nobody wrote where nobody noted it", () => {
    expect(briefly(page({}))).toBe("alice was answering nobody's message");
    expect(briefly(page({ known: false }))).toBe("What led to it was not noted");
  });

  it("leads to the message among its neighbours, and says where a text goes on", () => {
    expect(placeOf(message)).toBe("/messages?agent=bob&with=alice&id=8&before=58");
    expect(saidIn({ ...message, cut: true })).toBe("**Just** ask\nfor it…");
    expect(saidIn({ ...message, from: "system", body: '{"event":"killed","agent":"bob"}' })).toBe("bob was stopped");
  });
});
