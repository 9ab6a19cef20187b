// A component that is drawn again only when `same` says that its props changed.
import { Component, h, type FunctionComponent, type VNode } from "preact";

export function memo<P extends object>(Inner: FunctionComponent<P>, same: (before: P, after: P) => boolean): new () => Component<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      return !same(this.props, next);
    }
    override render(): VNode {
      return h(Inner as FunctionComponent<object>, this.props) as VNode;
    }
  };
}
