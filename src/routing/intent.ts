import { z } from "zod";
import { decodeJson } from "../control/json.ts";
import type { Entry } from "../control/store.ts";
import type { Slice } from "../model/slice.ts";
import { sliceSchema } from "../control/slice-schema.ts";

/**
 * What a job tells the routers before a slice changes hands, and what they must do (DESIGN section 6, facts:
 * control.md 5, pitfalls 24).
 *
 * - `prepare`: the move is near. A router acknowledges at once, holds nothing, and polls fast. Shows who is silent.
 * - `hold`: new transactions that write to the slice wait; those begun run to their end; then the router acknowledges.
 *   It lets go when the map gives the slice to `toShard` (run there), when the intent is gone (run at `fromShard`),
 *   or at `letGoAt`, by itself, whether the tool lives or not.
 *
 * A router that registers later reads the intents before its first statement. Correctness lives in the gate: a router
 * that ignores all this only shows its clients one retryable error.
 */
export interface Intent {
  /** Unique for each announcement: an acknowledgement can never count for another one. */
  readonly id: string;
  readonly job: string;
  readonly phase: "prepare" | "hold";
  readonly keyspace: string;
  readonly slice: Slice;
  readonly fromShard: string;
  readonly toShard: string;
  /** The map's epoch at the announcement; the slice moves in a later one. */
  readonly afterEpoch: number;
  /** By the store's clock, in ms. */
  readonly deadline: number;
  readonly stamp: string;
}

/** An intent as a router sees it. */
export interface LiveIntent extends Intent {
  /** The deadline by this process's `performance.now()`. */
  readonly letGoAt: number;
}

export type IntentProposal = Pick<Intent, "keyspace" | "slice" | "fromShard" | "toShard">;

const intentSchema = z.strictObject({
  id: z.string().min(1),
  job: z.string().min(1),
  phase: z.enum(["prepare", "hold"]),
  keyspace: z.string().min(1),
  slice: sliceSchema,
  fromShard: z.string().min(1),
  toShard: z.string().min(1),
  afterEpoch: z.int().positive(),
  deadline: z.number(),
  stamp: z.string().min(1),
});

export function decodeIntent(entry: Entry): Intent {
  return decodeJson(entry.value, intentSchema, entry.key);
}
