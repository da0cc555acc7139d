import { Notifier } from "../lib/wait.ts";
import {
  defaultDeadlineMs,
  immediately,
  openDatabase,
  patiently,
  type Database,
  type Statement,
} from "./sqlite-database.ts";
import { prepareFile } from "./sqlite-file.ts";
import { initialiseAcks } from "./sqlite-schema.ts";
import type { LeaseId } from "./store.ts";

const pollMs = 2;
/** Intents live for seconds; what is older belongs to none. */
const keepMs = 3_600_000;

/**
 * The cheap lane for acknowledgements: a file of its own, without a sync and without the global revision, because 64
 * routers answer within the write pause (facts: control.md 5: 9 ms against 42 ms). Losing it in a power cut is
 * harmless: an acknowledgement counts for one announcement of an intent only.
 */
export class SqliteAcks {
  readonly #path: string;
  readonly #database: Database;
  readonly #add: Statement;
  readonly #forget: Statement;
  readonly #of: Statement;
  readonly #added = new Notifier();

  static async open(path: string): Promise<SqliteAcks> {
    prepareFile(path);
    const database = await openDatabase(path, { readOnly: false, synchronous: "NORMAL" });
    try {
      await initialiseAcks(path, database);
      return new SqliteAcks(path, database);
    } catch (error) {
      database.close();
      throw error;
    }
  }

  private constructor(path: string, database: Database) {
    this.#path = path;
    this.#database = database;
    this.#add = database.prepare(
      `INSERT INTO ack VALUES (?, ?, ?, ?)
       ON CONFLICT (intent, router) DO UPDATE SET lease = excluded.lease, at = excluded.at`,
    );
    this.#forget = database.prepare("DELETE FROM ack WHERE at < ?");
    this.#of = database.prepare("SELECT router, lease FROM ack WHERE intent = ? ORDER BY router");
  }

  async add(intentId: string, router: string, lease: LeaseId): Promise<void> {
    const at = Date.now();
    await immediately(this.#path, this.#database, performance.now() + defaultDeadlineMs, () => {
      this.#forget.run(new Date(at - keepMs).toISOString());
      this.#add.run(intentId, router, lease, new Date(at).toISOString());
    });
    this.#added.notify();
  }

  async *of(
    intentId: string,
    options: {
      readonly signal: AbortSignal;
      readonly pollMs: (() => number) | undefined;
      readonly aliveLeases: () => Promise<ReadonlySet<LeaseId>>;
    },
  ): AsyncGenerator<ReadonlySet<string>, void, undefined> {
    let told: string | undefined;
    try {
      while (!options.signal.aborted) {
        const alive = await this.#alive(intentId, options.aliveLeases);
        const now = JSON.stringify(alive);
        if (now === told) {
          await this.#added.wait(options.signal, options.pollMs?.() ?? pollMs);
          continue;
        }
        told = now;
        yield new Set(alive);
      }
    } catch (error) {
      // Once it is ended, the store may already be closed; nobody waits for more.
      if (!options.signal.aborted) throw error;
    }
  }

  close(): void {
    this.#database.close();
  }

  async #alive(intentId: string, aliveLeases: () => Promise<ReadonlySet<LeaseId>>): Promise<string[]> {
    const rows = await patiently(this.#path, performance.now() + defaultDeadlineMs, () =>
      this.#of.all(intentId),
    );
    const alive = await aliveLeases();
    return rows.filter((row) => alive.has(Number(row["lease"]))).map((row) => String(row["router"]));
  }
}
