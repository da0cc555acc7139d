import type { Notifier } from "../lib/wait.ts";
import type { Database, Statement } from "./sqlite-database.ts";
import { inSnapshot } from "./sqlite-database.ts";
import { eventOf, keyRange, prepareEvents } from "./sqlite-rows.ts";
import { Compacted, StoreWentBack, type Change, type Rev, type StoreEvent } from "./store.ts";

/** What a watch needs of its store. */
interface WatchedStore {
  readonly signal: AbortSignal;
  readonly pollMs: (() => number) | undefined;
  /** Notified after each commit of this connection. */
  readonly committed: Notifier;
  /** Differs after every commit of any connection. */
  readonly version: () => string;
  readonly counter: () => { readonly rev: Rev; readonly keptAfter: Rev };
  readonly read: <T>(work: () => T) => Promise<T>;
  readonly idle: () => Promise<void>;
}

const idlePollMs = 20;
/** Revisions read in one go: a watcher that is far behind must not hold all of it in memory. */
const batchRevisions = 256;

/**
 * A watch by polling: `PRAGMA data_version` costs about a microsecond and changes with every commit of another
 * connection, but not with this one's own (SQLite manual, PRAGMA data_version), so own commits are counted too.
 *
 * Invariant: the version is read *before* the events, so a commit in between is seen at the next look.
 */
export async function* watchSqlite(
  database: Database,
  prefixes: readonly string[],
  after: Rev,
  store: WatchedStore,
): AsyncGenerator<Change, void, undefined> {
  const ranges = prefixes.flatMap(keyRange);
  let last = after;
  let looked: string | undefined;
  try {
    const events = await store.read(() => prepareEvents(database, prefixes.length));
    while (!store.signal.aborted) {
      const version = await store.read(store.version);
      if (version !== looked) {
        const batch = await store.read(() =>
          inSnapshot(database, () => readBatch(events, ranges, last, store)),
        );
        yield* batch.changes;
        last = batch.upTo;
        if (batch.complete) looked = version;
        continue;
      }
      await store.idle();
      await store.committed.wait(store.signal, store.pollMs?.() ?? idlePollMs);
    }
  } catch (error) {
    // Once the watch is ended, the store may already be closed; nobody waits for more.
    if (!store.signal.aborted) throw error;
  }
}

interface Batch {
  readonly changes: readonly Change[];
  readonly upTo: Rev;
  readonly complete: boolean;
}

function readBatch(events: Statement, ranges: readonly string[], last: Rev, store: WatchedStore): Batch {
  const { rev, keptAfter } = store.counter();
  if (rev < last)
    throw new StoreWentBack(`the control store is at revision ${rev}, but ${last} was seen before`);
  if (keptAfter > last) throw new Compacted(last, keptAfter);
  const upTo = Math.min(rev, last + batchRevisions);
  const changes = new Map<Rev, StoreEvent[]>();
  for (const row of events.all(last, upTo, ...ranges)) {
    const at = Number(row["rev"]);
    const list = changes.get(at) ?? [];
    changes.set(at, list);
    list.push(eventOf(row));
  }
  return {
    changes: [...changes].map(([at, list]) => ({ rev: at, events: list })),
    upTo,
    complete: upTo === rev,
  };
}
