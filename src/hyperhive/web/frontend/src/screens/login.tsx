import type { VNode } from "preact";
export function Login(): VNode { return <p/>; }
