import { randomUUID } from "node:crypto";
import { ShardliftError } from "../errors/error.ts";
import { sleep } from "../lib/wait.ts";
import type { KeyValue } from "../model/key.ts";
import type { Limit } from "./admission.ts";
import { settleMove, sweepMoves } from "./row-finish.ts";
import { createRowMoveTable } from "./row-ledger.ts";
import { InDoubt, type MovedRow, tryMove } from "./row-move.ts";
import { only } from "./statement.ts";
import type { Parts } from "./work.ts";

export interface MoveOptions {
  readonly from: unknown;
  readonly to: unknown;
  /**
   * Names this move. With the same token it happens once, however often it is asked for; keep it to ask again after
   * E_OUTCOME_UNKNOWN. Remembered for 7 days. At most 64 bytes. Random unless given.
   */
  readonly token?: string;
}

export interface MoveResult {
  /** `moved-before`: a call with the same token has moved the rows. `not-found`: not all rows are there; none was moved. */
  readonly outcome: "moved" | "moved-before" | "not-found";
  readonly token: string;
}

interface MoveRequest {
  readonly keyspace: string;
  readonly from: KeyValue;
  readonly to: KeyValue;
  readonly rows: readonly MovedRow[];
  readonly token: string | undefined;
}

const sweepMs = 5000;
/** Each doubt that is settled as "did not happen" is a lost connection; more than this many is no accident. */
const maxDoubts = 5;

/** Row moves of one router: asks for them, settles those in doubt, and finishes those whose router died. */
export class RowMoves {
  readonly #parts: Parts;
  #trouble: unknown;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** What hindered the last look for abandoned moves. */
  get trouble(): unknown {
    return this.#trouble;
  }

  async move(request: MoveRequest, limit: Limit): Promise<MoveResult> {
    const { keyspace, from, to, rows } = request;
    const token = request.token ?? randomUUID();
    if (from === to || rows.length === 0 || token === "" || Buffer.byteLength(token) > 64) {
      throw new ShardliftError(
        "E_USAGE",
        "a row move needs two different keys, a row, and a token of 1 to 64 bytes",
      );
    }
    // A random token is new, so only a given one can have moved before.
    if (request.token !== undefined && (await settleMove(this.#parts, token, limit))) {
      return { outcome: "moved-before", token };
    }
    const move = { need: { keyspace, keys: [from, to] }, from, to, rows, token };
    for (let doubts = 1; ; doubts++) {
      try {
        return { outcome: await tryMove(this.#parts, move, limit), token };
      } catch (error) {
        if (!(error instanceof InDoubt)) throw error;
        if (await this.#settle(token, error, limit)) return { outcome: "moved", token };
        // Now it is certain that nothing has happened, so it may be tried again.
        if (doubts === maxDoubts)
          throw new ShardliftError("E_ROW_MOVE", `the rows stay where they are: ${error.message}`, {
            cause: error,
          });
      }
    }
  }

  async install(limit: Limit): Promise<void> {
    for (const shard of this.#parts.pools.shards) {
      const lane = only(await this.#parts.pools.take([shard], limit));
      try {
        await lane.run(createRowMoveTable);
      } catch (cause) {
        lane.spoil();
        throw new ShardliftError(
          "E_ROW_MOVE",
          `the ledger of row moves could not be created at shard ${shard}`,
          {
            cause,
            next: `run there, with an account that may create tables: ${createRowMoveTable}`,
          },
        );
      } finally {
        lane.free();
      }
    }
  }

  /** Looks for abandoned moves at every shard until the signal. Never throws; see `trouble`. */
  async sweep(signal: AbortSignal): Promise<void> {
    const without = new Set<string>();
    while (!signal.aborted) {
      let trouble: unknown;
      for (const shard of this.#parts.pools.shards) {
        if (signal.aborted || without.has(shard)) continue;
        try {
          const until = this.#parts.clock() + sweepMs;
          if (!(await sweepMoves(this.#parts, shard, { until, signal }))) without.add(shard);
        } catch (error) {
          trouble ??= error;
        }
      }
      this.#trouble = trouble;
      await sleep(sweepMs, signal).catch(() => undefined);
    }
  }

  async #settle(token: string, doubt: InDoubt, limit: Limit): Promise<boolean> {
    try {
      // The answer is worth a little more time than the call had.
      const until = Math.max(limit.until, this.#parts.clock() + sweepMs);
      return await settleMove(this.#parts, token, { ...limit, until });
    } catch (cause) {
      throw new ShardliftError("E_OUTCOME_UNKNOWN", `row move ${token} is in doubt: ${doubt.message}`, {
        cause,
        next: `call moveRow again with the token ${token}; it is finished by itself once the shards can be reached`,
      });
    }
  }
}
