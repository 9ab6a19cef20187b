import { describe, expect, it } from "vitest";
import { parseInput } from "./commands";

describe("the send box", () => {
  it("knows commands from text", () => {
    expect(parseInput(" hello /model ")).toEqual({ kind: "text", text: "hello /model" });
    expect(parseInput("/cancel")).toEqual({ kind: "command", name: "cancel", argument: "" });
    expect(parseInput("/model opus ")).toEqual({ kind: "command", name: "model", argument: "opus" });
    expect(parseInput("//etc/hosts")).toEqual({ kind: "text", text: "/etc/hosts" });
    expect(parseInput("/etc/hosts is wrong")).toEqual({ kind: "text", text: "/etc/hosts is wrong" });
  });

  it("never sends a misspelt command as a message", () => {
    expect(parseInput("/cancle").kind).toBe("fault");
    expect(parseInput("/model").kind).toBe("fault");
    expect(parseInput("/model two words").kind).toBe("fault");
    expect(parseInput("/compact now").kind).toBe("fault");
  });
});
