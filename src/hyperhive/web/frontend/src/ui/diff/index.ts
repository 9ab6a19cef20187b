export { DiffView, type DiffViewProps } from "./DiffView";
export { escapeOf, hiddenIn, nameOf } from "./hidden";
export { EMPTY, type Memory, denial, forget, forgetOthers, recall, remember } from "./memory";
export { parseDiff } from "./parse";
export { Revealed } from "./Line";
