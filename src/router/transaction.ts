import { ShardliftError } from "../errors/error.ts";
import type { KeyValue } from "../model/key.ts";
import type { Limit } from "./admission.ts";
import { failureOf, isCommitInDoubt } from "./failure.ts";
import { type Lane, refuseSessionStatement, type Result, type Row, type Values } from "./lane.ts";
import { only, outcomeUnknown, twoShards } from "./statement.ts";
import type { Need } from "./view.ts";
import { type Parts, runWork } from "./work.ts";

/** What the callback gets. Only this may be used in it: another call of the router could be held and wait for it. */
export interface Transaction {
  readonly shard: string;
  /** The epoch of the map that this run of the callback was routed by. */
  readonly epoch: number;
  query<R = Row>(sql: string, values?: Values): Promise<Result<R>>;
  /** Like `query`, and refuses (E_TWO_SHARDS) a key that was not declared when the transaction was asked for. */
  queryAt<R = Row>(key: unknown, sql: string, values?: Values): Promise<Result<R>>;
}

export interface TransactionOptions {
  readonly isolation?: "READ COMMITTED" | "REPEATABLE READ" | "SERIALIZABLE";
}

export interface TransactionWork<T> {
  readonly need: Need;
  readonly canonical: (key: unknown) => KeyValue;
  readonly callback: (tx: Transaction) => Promise<T>;
  readonly options: TransactionOptions;
}

/**
 * Runs the callback in a transaction at the one owner of all its keys, and again from its start when a gate refuses a
 * statement or the server makes the transaction give way. A value that an earlier run has read must not survive into
 * a later one: the old shard may have served it after the slice had moved (facts: pitfalls.md 23).
 */
export async function runTransaction<T>(parts: Parts, work: TransactionWork<T>, limit: Limit): Promise<T> {
  const { need } = work;
  const check = (owners: readonly string[]): void => {
    if (owners.length > 1) throw twoShards(need, owners);
  };
  try {
    return await runWork(
      parts,
      { need, check, body: async (lanes, permit) => once(only(lanes), permit.map.epoch, work) },
      limit,
    );
  } catch (error) {
    throw error instanceof CallbackError ? error.cause : error;
  }
}

/** What the callback threw on its own account; it may look like a server's error and must not be taken for ours. */
class CallbackError extends Error {}

async function once<T>(lane: Lane, epoch: number, work: TransactionWork<T>): Promise<T> {
  const tx = new OpenTransaction(lane, epoch, work);
  try {
    await begin(lane, work.options);
    const value = await work.callback(tx).catch((cause: unknown) => {
      throw new CallbackError("the callback failed", { cause });
    });
    await tx.settle();
    await commit(lane);
    return value;
  } catch (error) {
    await tx.settle().catch(() => undefined);
    // What the callback made of the failure does not count: the server has let the transaction go.
    const cause = tx.doom ?? error;
    if (failureOf(cause).kind === "lost") lane.spoil();
    await lane.rollback();
    throw cause;
  } finally {
    tx.end();
  }
}

async function begin(lane: Lane, { isolation }: TransactionOptions): Promise<void> {
  if (isolation !== undefined && !levels.has(isolation)) {
    throw new ShardliftError("E_USAGE", `no isolation level: ${isolation}`, {
      next: `use one of: ${[...levels].join(", ")}`,
    });
  }
  if (isolation !== undefined) await lane.run(`SET TRANSACTION ISOLATION LEVEL ${isolation}`);
  await lane.run("START TRANSACTION");
}

const levels: ReadonlySet<string> = new Set(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]);

/** A lost answer to COMMIT is never followed by another try. */
async function commit(lane: Lane): Promise<void> {
  try {
    await lane.run("COMMIT");
  } catch (cause) {
    if (!isCommitInDoubt(cause)) throw cause;
    lane.spoil();
    throw outcomeUnknown(`COMMIT at shard ${lane.shard}`, cause);
  }
}

/**
 * Invariant: after a refusal, a conflict or a lost connection nothing more is sent and nothing is committed, whatever
 * the callback does with the error. After a deadlock the server has rolled back, and a further statement would run
 * alone and be committed by itself.
 */
class OpenTransaction implements Transaction {
  readonly shard: string;
  readonly epoch: number;
  readonly #lane: Lane;
  readonly #work: Pick<TransactionWork<unknown>, "canonical" | "need">;
  readonly #pending = new Set<Promise<unknown>>();
  #doom: unknown;
  #ended = false;

  constructor(lane: Lane, epoch: number, work: Pick<TransactionWork<unknown>, "canonical" | "need">) {
    this.shard = lane.shard;
    this.epoch = epoch;
    this.#lane = lane;
    this.#work = work;
  }

  /** Why the transaction can only be rolled back and run again. */
  get doom(): unknown {
    return this.#doom;
  }

  async query<R = Row>(sql: string, values: Values = []): Promise<Result<R>> {
    if (this.#ended) throw new ShardliftError("E_USAGE", "the transaction has ended; its callback is over");
    if (this.#doom !== undefined) throw this.#doom;
    refuseSessionStatement(sql);
    const pending = this.#run<R>(sql, values);
    this.#pending.add(pending);
    try {
      return await pending;
    } finally {
      this.#pending.delete(pending);
    }
  }

  async queryAt<R = Row>(key: unknown, sql: string, values: Values = []): Promise<Result<R>> {
    const text = this.#work.canonical(key);
    if (!this.#work.need.keys.includes(text)) {
      throw new ShardliftError(
        "E_TWO_SHARDS",
        `key ${text} was not declared: this transaction has the keys ${this.#work.need.keys.join(", ")}`,
        { next: "declare every key of the transaction; it runs only where one shard owns them all" },
      );
    }
    return this.query<R>(sql, values);
  }

  /** Statements that the callback did not await are waited for: a COMMIT must not overtake their failure. */
  async settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending);
    if (this.#doom !== undefined) throw this.#doom;
  }

  end(): void {
    this.#ended = true;
  }

  async #run<R>(sql: string, values: Values): Promise<Result<R>> {
    try {
      const { status, ...result } = await this.#lane.run<R>(sql, values);
      if (status !== undefined && !status.inTransaction) {
        this.#lane.spoil();
        throw new ShardliftError("E_USAGE", "the statement ended the transaction by itself", {
          next: "run statements that commit (DDL and the like) at the shard, not through the router",
        });
      }
      return result;
    } catch (error) {
      if (failureOf(error).kind !== "other" || error instanceof ShardliftError) this.#doom ??= error;
      throw error;
    }
  }
}
