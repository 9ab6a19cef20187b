/** Typed rows of an agent's live terminal: see `model.ts` first. */

export * from "./facts";
export * from "./filter";
export type { Frame } from "./frames";
export { firstLine } from "./frames";
export type { DiffLine } from "./linediff";
export { countLines } from "./linediff";
export { RowModel } from "./model";
export type { TurnGroup } from "./tree";
export type * from "./types";
