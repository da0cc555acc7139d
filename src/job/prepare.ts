import type { Position, Session } from "../engines/engine.ts";
import type { MoveRun } from "../cutover/cutover-context.ts";
import { ShardliftError } from "../errors/error.ts";
import { sleep } from "../lib/wait.ts";
import type { Move, Plan } from "../plan/plan.ts";
import { Tail } from "../tail/tail.ts";
import { Verifier } from "../verify/verifier.ts";
import type { JobDeps } from "./job-context.ts";
import { newTableWork, type MoveWork } from "./table-work.ts";

/** Prepared transactions that nobody decides would make the job wait for ever. */
const maxXaWaitMs = 60_000;

export interface PrepareContext {
  readonly deps: JobDeps;
  readonly job: string;
  readonly plan: Plan;
  readonly sessions: ReadonlyMap<string, Session>;
  readonly signal: AbortSignal;
  readonly journal: (
    step: string,
    at: "about" | "did",
    data?: Readonly<Record<string, unknown>>,
  ) => Promise<void>;
}

/**
 * Makes a move ready to copy, or takes up what an earlier run has left.
 *
 * Rule 1: the log position P0 is saved at the target before the first chunk is read; the first saved position is the
 * proof that a move was prepared. Without one there can be no progress, and the preparation starts over.
 */
export async function prepareMove(context: PrepareContext, move: Move): Promise<MoveRun> {
  const source = sessionOf(context.sessions, move.from);
  const target = sessionOf(context.sessions, move.to);
  const saved = await target.ledger.checkpoint(move.from);
  if (saved !== undefined && saved.sourceServer !== source.server.id) {
    throw new ShardliftError(
      "E_SERVER_CHANGED",
      `${move.from} is now served by ${source.server.address} (${source.server.id}); the job has followed ${saved.sourceServer}`,
    );
  }
  const from = saved?.position ?? (await firstPreparation(context, move, source, target));
  const lost = await source.log.whyNotReadable(from);
  if (lost !== undefined) throw new ShardliftError("E_LOG_LOST", `${move.from}: ${lost}`);
  return await resumeMove(context, move, source, target, from);
}

async function firstPreparation(
  context: PrepareContext,
  move: Move,
  source: Session,
  target: Session,
): Promise<Position> {
  const { plan, deps, journal } = context;
  const existing = await target.catalog.existing(plan.tables.map((table) => table.name));
  for (const table of plan.tables) {
    if (existing.has(table.name)) {
      // Preflight has compared the owner's tables, but only at the job's start; ours may be half made.
      await target.catalog.adopt(table);
      continue;
    }
    await journal("create-table", "about", { shard: move.to, table: table.name });
    await target.catalog.create(table, { deferIndexes: deps.config.copy.deferIndexes });
  }
  const position = await positionWithoutPrepared(context, source);
  await target.ledger.saveCheckpoint(move.from, position, source.server.id);
  await journal("prepare", "did", { move: move.id, position });
  return position;
}

/**
 * Rows of a transaction that was prepared before P0 are logged below it and visible only after its verdict: neither
 * the log nor the copy would show them (facts/pitfalls, 7). So P0 counts only when nothing is prepared after it was
 * read.
 */
async function positionWithoutPrepared({ signal }: PrepareContext, source: Session): Promise<Position> {
  const until = performance.now() + maxXaWaitMs;
  for (;;) {
    const position = await source.log.head();
    const prepared = await source.log.preparedTransactions();
    if (prepared.length === 0) return position;
    if (performance.now() > until) {
      throw new ShardliftError(
        "E_TIMEOUT",
        `prepared XA transactions stay undecided at ${source.server.address}: ${prepared.join(", ")}`,
        { next: "XA COMMIT or XA ROLLBACK them, then run `shardlift resume`", retryable: true },
      );
    }
    await sleep(200, signal);
  }
}

async function resumeMove(
  { job, plan }: PrepareContext,
  move: Move,
  source: Session,
  target: Session,
  from: Position,
): Promise<MoveRun> {
  const chunks = await target.ledger.loadedChunks(move.from);
  const tables = [];
  for (const shape of plan.tables) {
    // Rows outside the slice are the target's own: then a primary key held by one of them must stop the job, so
    // REPLACE is never used. Later ones are refused by the mirror gate.
    const ownRows = await target.catalog.countOutside(shape, move.slice, 1);
    const table = newTableWork(shape, source, ownRows === 0 && shape.secondaryUniqueKeys.length === 0);
    const loaded = chunks.filter((chunk) => chunk.table === shape.name);
    table.copied.restore(loaded.map((chunk) => chunk.interval));
    table.rowsLoaded = loaded.reduce((sum, chunk) => sum + chunk.rows, 0);
    tables.push(table);
  }
  const work: MoveWork = {
    id: move.id,
    from: move.from,
    to: move.to,
    slice: move.slice,
    source,
    target,
    tables,
  };
  const tail = new Tail(work, job, from);
  const verifier = new Verifier(work, tail);
  for (const table of tables) {
    for (const chunk of chunks) if (chunk.table === table.shape.name) verifier.add(table, chunk.interval);
  }
  return { work, tail, verifier };
}

function sessionOf(sessions: ReadonlyMap<string, Session>, shard: string): Session {
  const session = sessions.get(shard);
  if (session === undefined) throw new ShardliftError("E_BUG", `no session for shard ${shard}`);
  return session;
}
