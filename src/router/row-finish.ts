import { errnoOf } from "../engines/mysql/errors.ts";
import { ShardliftError } from "../errors/error.ts";
import { keyspaceOf, ownerOf } from "../model/routing-map.ts";
import type { Limit, Permit } from "./admission.ts";
import { failureOf } from "./failure.ts";
import type { Lane } from "./lane.ts";
import { exactSession, ordinarySession } from "./row-image.ts";
import {
  deleteDeparture,
  type Departure,
  forgetArrivals,
  hasArrived,
  lockDeparture,
  oldDepartures,
  readArrival,
  readDeparture,
  redirectDeparture,
  writeArrival,
} from "./row-ledger.ts";
import { begin, inExactSessions, insertRow } from "./row-move.ts";
import { only } from "./statement.ts";
import { type Parts, runWork } from "./work.ts";

/** A move whose router died is finished this long after it began; a living router needs milliseconds. */
const abandonedSeconds = 5;
/** How long a token is remembered. A departure is finished well before its arrival can be forgotten. */
const tokenDays = 7;
const finishWithinSeconds = 3 * 24 * 3600;
const sweepRows = 1000;
const forgetRows = 1000;

/**
 * What became of the move with this token: true when the rows have arrived, which it brings about where they are on
 * their way; false when the move has not happened and, since whatever was in flight has been waited for, will not
 * happen by itself any more.
 */
export async function settleMove(parts: Parts, token: string, limit: Limit): Promise<boolean> {
  const { shards } = parts.pools;
  for (const shard of shards) {
    if ((await onShard(parts, shard, limit, async (lane) => lockDeparture(lane, token))) === undefined)
      continue;
    await finishMove(parts, shard, token, limit);
  }
  for (const shard of shards) {
    if (await onShard(parts, shard, limit, async (lane) => hasArrived(lane, token))) return true;
  }
  return false;
}

/**
 * Brings rows that are on their way to the owner of their new key, whoever that is by now. Safe beside the router that
 * began the move and beside others that finish it: the departure is locked, and an attempt that could still arrive
 * elsewhere is declared void there first.
 */
async function finishMove(parts: Parts, from: string, token: string, limit: Limit): Promise<void> {
  for (;;) {
    const seen = await onShard(parts, from, limit, async (lane) => readDeparture(lane, token));
    if (seen === undefined) return;
    if (seen.ageSeconds > finishWithinSeconds) throw tooOld(from, seen);
    const work = {
      need: { keyspace: seen.keyspace, keys: [seen.toKey] },
      also: [from, seen.toShard],
      body: async (lanes: readonly Lane[], permit: Permit): Promise<boolean> =>
        inExactSessions(lanes, async () => deliver(lanes, permit, from, seen)),
    };
    // Every step of it can be repeated, so it keeps what `runWork` asks of a body.
    if (await runWork(parts, work, limit)) return;
  }
}

/** One try; false when it has to be looked at anew. */
async function deliver(
  lanes: readonly Lane[],
  permit: Permit,
  from: string,
  seen: Departure,
): Promise<boolean> {
  const named = (shard: string): Lane => only(lanes.filter((lane) => lane.shard === shard));
  const owner = ownerOf(keyspaceOf(permit.map, seen.keyspace), seen.toKey);
  const [source, target] = [named(from), named(owner)];
  const { token, arrival } = seen;
  await begin(source);
  const departure = await lockDeparture(source, token);
  if (departure === undefined || departure.toShard !== seen.toShard || departure.arrival !== arrival) {
    await source.rollback();
    return false;
  }
  if (seen.toShard === owner) {
    if (target !== source) await begin(target);
    if (await writeArrival(target, token, arrival, "arrived")) {
      for (const row of departure.rows) await insertRow(target, row);
      if (target !== source) await target.run("COMMIT");
      return clear(source, token);
    }
    if (target !== source) await target.rollback();
  }
  // Until this is committed, another router may still bring the rows to the former owner.
  if (!(await voidArrival(named(seen.toShard), token, arrival))) return clear(source, token);
  await redirectDeparture(source, token, owner, arrival + 1);
  await source.run("COMMIT");
  return false;
}

/** True when the attempt is void now and for ever, false when it has arrived. */
async function voidArrival(lane: Lane, token: string, arrival: number): Promise<boolean> {
  if (await writeArrival(lane, token, arrival, "void")) return true;
  return (await readArrival(lane, token, arrival)) === "void";
}

async function clear(source: Lane, token: string): Promise<boolean> {
  await deleteDeparture(source, token);
  await source.run("COMMIT");
  return true;
}

/**
 * Finishes abandoned moves of one shard and forgets old tokens. False when the shard has no ledger, or this account
 * may not use it: then nothing can be there to finish for it.
 */
export async function sweepMoves(parts: Parts, shard: string, limit: Limit): Promise<boolean> {
  try {
    const tokens = await onShard(parts, shard, limit, async (lane) =>
      oldDepartures(lane, abandonedSeconds, sweepRows),
    );
    const stuck: ShardliftError[] = [];
    for (const token of tokens) {
      // One that can not arrive must not keep the others waiting.
      await finishMove(parts, shard, token, limit).catch((cause: unknown) =>
        stuck.push(notFinished(shard, token, cause)),
      );
    }
    await onShard(parts, shard, limit, async (lane) => forgetArrivals(lane, tokenDays, forgetRows));
    if (stuck[0] !== undefined) throw stuck[0];
    return true;
  } catch (error) {
    if (noLedger.has(errnoOf(error) ?? 0)) return false;
    throw error;
  }
}

/** 1142 not allowed, 1146 no such table. */
const noLedger: ReadonlySet<number> = new Set([1142, 1146]);

/**
 * Statements of the ledger alone need no permit: the ledger is in no slice. Autocommit, so their locks end with them,
 * and each of them may be sent again. Waits for a transaction that holds the row in short turns, to keep the limit.
 */
async function onShard<T>(
  parts: Parts,
  shard: string,
  limit: Limit,
  work: (lane: Lane) => Promise<T>,
): Promise<T> {
  for (let losses = 0; ;) {
    const lane = only(await parts.pools.take([shard], limit));
    try {
      await exactSession(lane);
      const value = await work(lane);
      await ordinarySession(lane);
      return value;
    } catch (error) {
      lane.spoil();
      const { kind } = failureOf(error);
      if (kind === "lost") losses += 1;
      if ((kind !== "conflict" && kind !== "lost") || losses > maxLosses) throw error;
      if (parts.clock() >= limit.until) throw error;
    } finally {
      lane.free();
    }
  }
}

/** More lost connections in a row than this are not an accident. */
const maxLosses = 5;

function notFinished(shard: string, token: string, cause: unknown): ShardliftError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ShardliftError(
    "E_ROW_MOVE",
    `row move ${token} from shard ${shard} is not finished yet: ${why}`,
    {
      cause,
      retryable: true,
    },
  );
}

function tooOld(from: string, { token, ageSeconds }: Departure): ShardliftError {
  return new ShardliftError(
    "E_ROW_MOVE",
    `row move ${token} has been waiting at shard ${from} for ${Math.round(ageSeconds / 3600)} hours; it is not finished by itself any more`,
    { next: `look at its row in ${from} and at the table there, and mend it by hand` },
  );
}
