import type { KeyId, Session, TableShape } from "../engines/engine.ts";
import type { Slice } from "../model/slice.ts";
import { Coverage } from "../copy/coverage.ts";
import { DirtyKeys } from "../tail/dirty-keys.ts";

/** One table of one move: the state that copy, tail and verify share. */
export interface TableWork {
  readonly shape: TableShape;
  readonly copied: Coverage;
  /** Which part of the key space verification has read; later changes of it are verified again by key. */
  readonly verified: Coverage;
  readonly dirty: DirtyKeys;
  /** Keys written at the target after verification had read their interval. */
  readonly unproven: Set<KeyId>;
  /** See RecopyRequest.mayReplace. */
  readonly mayReplace: boolean;
  /** Rows loaded by chunks, all runs. */
  rowsLoaded: number;
}

/** One move of the plan with the two servers that it runs between. */
export interface MoveWork {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly slice: Slice;
  readonly source: Session;
  readonly target: Session;
  readonly tables: readonly TableWork[];
}

export function newTableWork(shape: TableShape, source: Session, mayReplace: boolean): TableWork {
  const compare =
    shape.keyOrder === "client" ? (a: KeyId, b: KeyId) => source.catalog.compareKeys(shape, a, b) : undefined;
  return {
    shape,
    copied: new Coverage(compare),
    verified: new Coverage(compare),
    dirty: new DirtyKeys(),
    unproven: new Set(),
    mayReplace,
    rowsLoaded: 0,
  };
}
