import { existsSync } from "node:fs";
import { openSqliteStore } from "../control/sqlite-store.ts";
import { ShardliftError } from "../errors/error.ts";
import { type Router, type RouterSettings, startRouter } from "./core.ts";

/**
 * `import { openRouter } from 'shardlift/router'`: the library with which an application in Node writes to shards that
 * shardlift splits and moves (docs/router.md). This file is the package's entry, so it also names the types.
 */
export interface RouterOptions extends RouterSettings {
  /** The control store. SQLite is for one host: the tool and every router must run on it. */
  readonly control: { readonly type: "sqlite"; readonly path: string };
}

export async function openRouter({ control, ...settings }: RouterOptions): Promise<Router> {
  // A router never makes a store: with a mistyped path it would follow an empty one.
  if (!existsSync(control.path)) {
    throw new ShardliftError("E_CONTROL_STORE", `there is no control store at ${control.path}`, {
      next: "give the path from shardlift.yaml; `shardlift route publish` makes the store",
    });
  }
  const store = await openSqliteStore(control.path);
  try {
    return await startRouter(store, settings);
  } catch (error) {
    await store.close();
    throw error;
  }
}

export type { Router, RouterSettings, RouterStatus } from "./core.ts";
export type { Result, Row, Values } from "./lane.ts";
export type { ShardOptions } from "./pools.ts";
export type { MovedRow } from "./row-move.ts";
export type { MoveOptions, MoveResult } from "./row-moves.ts";
export type { ScatterResult, ScatterSql } from "./scatter.ts";
export type { Transaction, TransactionOptions } from "./transaction.ts";
export { createRowMoveTable } from "./row-ledger.ts";
export { ShardliftError } from "../errors/error.ts";
