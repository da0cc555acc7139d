import { ShardliftError } from "../errors/error.ts";
import type { Limit } from "./admission.ts";
import { failureOf } from "./failure.ts";
import { type Lane, refuseSessionStatement, type Result, type Row, type Values } from "./lane.ts";
import type { Need } from "./view.ts";
import { type Parts, runWork } from "./work.ts";

/**
 * Single statements. A write is one autocommit statement, so a refusal or a deadlock means that nothing happened and
 * it may be sent again; a lost connection means that nobody knows, and it is never sent again.
 */
export async function writeStatement<R = Row>(
  parts: Parts,
  need: Need,
  statement: { readonly sql: string; readonly values: Values },
  limit: Limit,
): Promise<Result<R>> {
  refuseSessionStatement(statement.sql);
  const body = async (lanes: readonly Lane[]): Promise<Result<R>> => autocommitted<R>(only(lanes), statement);
  return runWork(parts, { need, body }, limit);
}

async function autocommitted<R>(
  lane: Lane,
  { sql, values }: { readonly sql: string; readonly values: Values },
): Promise<Result<R>> {
  try {
    const { status, ...result } = await lane.run<R>(sql, values);
    if (status !== undefined && (status.inTransaction || !status.autocommit)) {
      // Lent on like this, the connection would hold locks for ever and lose what others write through it.
      lane.spoil();
      throw new ShardliftError("E_USAGE", "the statement left a transaction open; it was rolled back", {
        next: "use router.transaction",
      });
    }
    return result;
  } catch (cause) {
    if (failureOf(cause).kind !== "lost") throw cause;
    lane.spoil();
    throw outcomeUnknown(`the statement at shard ${lane.shard}`, cause);
  }
}

/**
 * A read at the owner. It is never held: until the map changes the old owner serves it, and only while the map is
 * known to be new enough (DESIGN section 6). May be sent again after a lost connection: it has no effect.
 */
export async function readStatement<R = Row>(
  parts: Parts,
  need: Need,
  { sql, values }: { readonly sql: string; readonly values: Values },
  limit: Limit,
): Promise<Result<R>> {
  refuseSessionStatement(sql);
  for (let attempt = 1; ; attempt++) {
    const lane = await readLane(parts, need, limit);
    try {
      return await readOn<R>(lane, sql, values);
    } catch (error) {
      const { kind } = failureOf(error);
      if (kind === "lost") lane.spoil();
      if (kind === "other" || attempt === readAttempts) throw error;
    } finally {
      lane.free();
    }
  }
}

const readAttempts = 3;

/** Runs a statement that must give rows; a write has no business here, since it would be neither held nor counted. */
export async function readOn<R>(lane: Lane, sql: string, values: Values): Promise<Result<R>> {
  const { status, ...result } = await lane.run<R>(sql, values);
  if (status === undefined) return result;
  lane.spoil();
  throw new ShardliftError("E_USAGE", "a statement that gives no rows was run as a read", {
    next: "use router.query or router.transaction for writes",
  });
}

/** Takes a lane and looks again: the map may have changed, or its time may be up, while the pool was busy. */
async function readLane(parts: Parts, need: Need, limit: Limit): Promise<Lane> {
  for (;;) {
    await awaitTrust(parts, limit);
    const [owner = "", ...others] = parts.view.owners(need);
    if (others.length > 0) throw twoShards(need, [owner, ...others]);
    const lane = only(await parts.pools.take([owner], limit));
    if (parts.view.isTrusted(parts.clock()) && parts.view.owners(need)[0] === owner) return lane;
    lane.free();
  }
}

/**
 * A process that was stopped for a while finds its lease run out although the store is well: it waits for the next
 * confirmation, but not longer than the lease would last.
 */
export async function awaitTrust({ view, clock }: Parts, limit: Limit): Promise<void> {
  const until = Math.min(limit.until, clock() + trustWaitMs);
  while (!view.isTrusted(clock())) {
    if (clock() >= until) throw view.leaseError();
    await view.changed.wait(limit.signal, until - clock() + 1);
  }
}

const trustWaitMs = 1000;

export function only(lanes: readonly Lane[]): Lane {
  const [lane] = lanes;
  if (lane === undefined || lanes.length > 1)
    throw new ShardliftError("E_BUG", `${lanes.length} lanes where one is due`);
  return lane;
}

export function twoShards(need: Need, owners: readonly string[]): ShardliftError {
  return new ShardliftError(
    "E_TWO_SHARDS",
    `the keys ${need.keys.join(", ")} belong to ${owners.join(" and ")}`,
  );
}

export function outcomeUnknown(what: string, cause: unknown): ShardliftError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new ShardliftError("E_OUTCOME_UNKNOWN", `${what} was sent but not answered (${message})`, { cause });
}
