/**
 * The window of an agent's events that is loaded, and its rows.
 *
 * Events come live and in pages of history, in any order and any number of times; each is taken once, by `eid` or, where
 * it was not kept, by `seq`. Appending folds only what is new; a page from before, or one that fills a gap, folds the
 * window anew. The window is bounded: see `trim`.
 */

import { Fold } from "./fold";
import type { Frame } from "./frames";
import { groupPicture, type TurnGroup } from "./tree";

interface Kept {
  readonly frame: Frame;
  /** Where it belongs: its own eid, or that of the frame before it. */
  readonly order: number;
  readonly arrived: number | undefined;
}

export interface ModelOptions {
  /** Show missing events as a row. Off where the events are hits of a search. Default: on. */
  readonly gaps?: boolean;
}

export class RowModel {
  private kept: Kept[] = [];
  private fold: Fold;
  private readonly eids = new Set<number>();
  private readonly seqs = new Set<number>();
  private readonly lost = new Set<number>();
  private readonly gaps: boolean;

  constructor(options: ModelOptions = {}) {
    this.gaps = options.gaps ?? true;
    this.fold = new Fold(this.gaps, this.lost);
  }

  /** The rows by turn, in order. A group keeps its identity while nothing in it changes. */
  groups(): TurnGroup[] {
    return this.fold.groups.map(groupPicture).filter((group) => group.rows.length > 0);
  }

  get size(): number {
    return this.groups().reduce((sum, group) => sum + group.size, 0);
  }

  get frames(): number {
    return this.kept.length;
  }

  get firstEid(): number | undefined {
    return this.kept.find((one) => one.frame.eid !== undefined)?.frame.eid;
  }

  get lastEid(): number | undefined {
    return this.kept.findLast((one) => one.frame.eid !== undefined)?.frame.eid;
  }

  /** Take in frames that are in order among themselves; returns how many were new. `arrived`: unix seconds. */
  add(frames: readonly Frame[], arrived?: number): number {
    const fresh: Kept[] = [];
    let order = this.kept.at(-1)?.order ?? 0;
    for (const frame of frames) {
      if (this.known(frame)) continue;
      order = frame.eid ?? order;
      fresh.push({ frame, order, arrived });
    }
    const first = fresh[0];
    if (!first) return 0;
    const behind = this.kept.at(-1)?.order ?? 0;
    if (fresh.every((one) => one.order >= behind)) {
      for (const one of fresh) {
        this.kept.push(one);
        this.fold.add(one.frame, one.arrived);
      }
    } else {
      this.kept = [...this.kept, ...fresh].sort((a, b) => a.order - b.order); // a stable sort: frames without eid stay behind theirs
      this.refold();
    }
    return fresh.length;
  }

  /** Forget everything. */
  clear(): void {
    this.kept = [];
    this.eids.clear();
    this.seqs.clear();
    this.refold();
  }

  /** The live numbers begin anew: frames without eid can no longer be told from older ones by `seq`. */
  newEpoch(): void {
    this.seqs.clear();
  }

  /**
   * This page is all that the log holds from its first event up to `through`: what else is loaded of that was told and
   * never kept, or its number is another event's by now. Events without a number are gone with the hive that told them.
   */
  correct(page: readonly Frame[], through = Infinity): void {
    const first = page[0]?.eid ?? 0;
    const told = new Map(page.map((frame) => [frame.eid, frame]));
    const kept = this.kept.flatMap((one) => {
      if (one.order < first || one.order > through) return one;
      const frame = told.get(one.frame.eid ?? 0);
      return frame === undefined ? [] : { ...one, frame };
    });
    this.kept = kept;
    this.eids.clear();
    this.seqs.clear();
    for (const { frame } of kept) this.known(frame);
    this.refold();
  }

  /** What is missing before this event is not kept any more: the gap stays, and cannot be loaded. */
  giveUp(to: number): void {
    this.lost.add(to);
    this.refold();
  }

  /**
   * Keep about `keep` rows where there are more than `limit`: the newest, or the oldest. Returns whether any went.
   * `limit` and `keep` lie apart, so that trimming is rare.
   */
  trim(limit: number, keep: number, side: "newest" | "oldest" = "newest"): boolean {
    const size = this.size;
    if (size <= limit) return false;
    const count = Math.max(1, Math.floor((this.kept.length * keep) / size));
    this.kept = side === "newest" ? this.kept.slice(-count) : this.kept.slice(0, count);
    this.eids.clear();
    this.seqs.clear();
    for (const { frame } of this.kept) this.known(frame);
    this.refold();
    return true;
  }

  private known(frame: Frame): boolean {
    const [names, name] = frame.eid !== undefined ? [this.eids, frame.eid] : [this.seqs, frame.seq];
    if (name === undefined) return false;
    if (names.has(name)) return true;
    names.add(name);
    return false;
  }

  private refold(): void {
    this.fold = new Fold(this.gaps, this.lost);
    for (const { frame, arrived } of this.kept) this.fold.add(frame, arrived);
  }
}
