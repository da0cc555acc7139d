/** Writers that use the router like an application and know what they were told; and a check that shares no code with it. */
import { setTimeout as delay } from "node:timers/promises";
import type { Connection, RowDataPacket } from "mysql2/promise";
import type { Router } from "../../src/router/core.ts";
import type { Lab, Shard } from "./router-lab.ts";

export interface Load {
  /** Stops the writers and waits for their last calls. */
  stop(): Promise<void>;
  readonly acknowledged: number;
  readonly errors: readonly unknown[];
  /** What each shard's owned rows must be now. Compares with plain reads; returns the differences. */
  differences(lab: Lab): Promise<string[]>;
}

interface Known {
  key: number;
  v: number;
}

/**
 * Each writer has keys of its own in both halves, so that it knows every version: single inserts, updates and deletes,
 * transactions of three statements, and moves of rows over the border.
 */
export function startLoad(
  router: Router,
  options: { readonly writers: number; readonly moves?: boolean },
): Load {
  const known = new Map<number, Known>();
  const errors: unknown[] = [];
  const stop = new AbortController();
  let acknowledged = 0;
  let nextId = 1;

  const one = async (writer: number, step: number): Promise<void> => {
    const key = (step % 2 === 0 ? 0 : 5000) + writer * 10 + (step % 5);
    const mine = [...known].filter(([id, row]) => id % options.writers === writer && row.key === key);
    const [id, row] = mine[step % Math.max(1, mine.length)] ?? [0, undefined];
    const fresh = (): number => nextId++ * options.writers + writer;
    const kind = step % 7;
    if (row === undefined || kind === 0) {
      const made = fresh();
      await router.query("shop", key, "INSERT INTO orders (id, user_id, v) VALUES (?, ?, 1)", [made, key]);
      known.set(made, { key, v: 1 });
    } else if (kind === 1) {
      await router.query("shop", key, "DELETE FROM orders WHERE id = ?", [id]);
      known.delete(id);
    } else if (kind < 4) {
      await router.query("shop", key, "UPDATE orders SET v = v + 1 WHERE id = ? AND user_id = ?", [id, key]);
      row.v += 1;
    } else if (kind < 6 || options.moves !== true) {
      const made = fresh();
      await router.transaction("shop", key, async (tx) => {
        const { rows } = await tx.query("SELECT v FROM orders WHERE id = ? AND user_id = ?", [id, key]);
        // By the value that was read: a run that mixed two shards would show here.
        await tx.query("UPDATE orders SET v = ? WHERE id = ?", [BigInt(String(rows[0]?.["v"])) + 1n, id]);
        await tx.query("INSERT INTO orders (id, user_id, v) VALUES (?, ?, 1)", [made, key]);
      });
      row.v += 1;
      known.set(made, { key, v: 1 });
    } else {
      // Over the border in this direction only: until `finish`, old copies of moved rows hold their keys at s0.
      const to = key < 5000 ? key + 5000 : key + 5;
      const { outcome } = await router.moveRow("shop", {
        table: "orders",
        primaryKey: { id },
        from: key,
        to,
        set: { v: row.v + 1 },
      });
      if (outcome !== "moved") throw new Error(`row ${id} was ${outcome}`);
      row.v += 1;
      row.key = to;
    }
    acknowledged += 1;
  };

  const run = async (writer: number): Promise<void> => {
    for (let step = writer; !stop.signal.aborted; step++) {
      await one(writer, step).catch((error: unknown) => errors.push(error));
    }
  };
  const writers = Array.from({ length: options.writers }, async (_, writer) => run(writer));

  return {
    stop: async () => {
      stop.abort();
      await Promise.all(writers);
    },
    get acknowledged() {
      return acknowledged;
    },
    errors,
    differences: async (lab) => {
      const split = router.map().epoch > 1;
      const found: string[] = [];
      const seen = new Set<number>();
      const ownedBy: readonly (readonly [Shard, string])[] = split
        ? [
            ["s0", "user_id < 5000"],
            ["s1", "user_id >= 5000"],
          ]
        : [["s0", "TRUE"]];
      for (const [shard, owned] of ownedBy) {
        for (const row of await lab.rows(shard, `SELECT id, user_id, v FROM orders WHERE ${owned}`)) {
          const id = Number(row["id"]);
          const expected = known.get(id);
          if (seen.has(id)) found.push(`row ${id} is there twice`);
          seen.add(id);
          if (expected === undefined) found.push(`row ${id} should not be at ${shard}`);
          else if (expected.key !== Number(row["user_id"]) || expected.v !== Number(row["v"])) {
            found.push(`row ${id} is ${JSON.stringify(row)}, not ${JSON.stringify(expected)}`);
          }
        }
      }
      for (const id of known.keys()) if (!seen.has(id)) found.push(`row ${id} is lost`);
      return found;
    },
  };
}

/** Kills some of the application's connections every few milliseconds; ends with `stop`. */
export function killConnections(root: Connection): { stop(): Promise<void> } {
  const stop = new AbortController();
  const killing = (async () => {
    while (!stop.signal.aborted) {
      const [rows] = await root.query<RowDataPacket[]>(
        "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE USER = 'app' ORDER BY RAND() LIMIT 2",
      );
      // 1094: it has ended by itself meanwhile.
      for (const { id } of rows) await root.query(`KILL ${String(id)}`).catch(() => undefined);
      await delay(15);
    }
  })();
  return {
    stop: async () => {
      stop.abort();
      await killing;
    },
  };
}
