// The component kit.
export * from "./basics";
export * from "./dialogs";
export * from "./fields";
export * from "./icons";
export * from "./layout";
export * from "./menu";
export { Banner, Empty, ErrorBox, Loading } from "./states";
export { toast, undoLast, type ToastOptions } from "./toast";
export { VisitLine } from "./visit-line";
