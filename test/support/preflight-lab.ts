/** Preflight of one move between two test servers, with the checks of the MySQL engine. */
import { expect } from "vitest";
import type { Finding, TableSpec } from "../../src/engines/engine.ts";
import { mysqlChecks } from "../../src/engines/mysql/checks.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";
import { boundAt, MAX, type KeyType } from "../../src/model/key.ts";
import type { Slice } from "../../src/model/slice.ts";
import { runPreflight } from "../../src/preflight/preflight.ts";
import { openSession, sqlAsRoot, type SessionLabOptions } from "./session-lab.ts";

export const movedSlice: Slice = [{ from: boundAt("100"), to: MAX }];
export const orders: TableSpec = { name: "orders", shardKey: "user_id" };
export const createOrders =
  "CREATE TABLE orders (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT NOT NULL, v INT, KEY by_user (user_id))";

export interface Asked {
  readonly tables?: readonly TableSpec[];
  readonly slice?: Slice;
  readonly keyType?: KeyType;
  readonly storeId?: string | undefined;
  readonly at?: { readonly source?: LocalServer; readonly target?: LocalServer };
  readonly account?: Pick<SessionLabOptions, "user" | "password">;
}

export interface PreflightLab {
  readonly findings: (asked?: Asked) => Promise<readonly Finding[]>;
  /** What one rule has to say besides `ok`. */
  readonly saying: (check: string, asked?: Asked) => Promise<readonly Finding[]>;
  /** The finding is there, and its own SQL makes it go away. */
  readonly mends: (server: LocalServer, check: string, asked?: Asked) => Promise<Finding>;
}

/** Both servers have a database `shop`. */
export function preflightLab(source: () => LocalServer, target: () => LocalServer): PreflightLab {
  async function findings(asked: Asked = {}): Promise<readonly Finding[]> {
    const options = { database: "shop", ...asked.account };
    await using from = await openSession(asked.at?.source ?? source(), { ...options, shard: "s0" });
    await using to = await openSession(asked.at?.target ?? target(), { ...options, shard: "s1" });
    const report = await runPreflight({
      checks: mysqlChecks,
      moves: [{ source: from, target: to, slice: asked.slice ?? movedSlice }],
      tables: asked.tables ?? [orders],
      keyType: asked.keyType ?? "integer",
      storeId: "storeId" in asked ? asked.storeId : "store-1",
      signal: new AbortController().signal,
    });
    return report.findings;
  }

  async function saying(check: string, asked: Asked = {}): Promise<readonly Finding[]> {
    return (await findings(asked)).filter((finding) => finding.check === check && finding.level !== "ok");
  }

  async function mends(server: LocalServer, check: string, asked: Asked = {}): Promise<Finding> {
    const [finding, ...more] = await saying(check, asked);
    expect(more).toEqual([]);
    if (finding === undefined) throw new Error(`${check} found nothing`);
    await sqlAsRoot(server, finding.fix, "shop");
    expect(await saying(check, asked)).toEqual([]);
    return finding;
  }

  return { findings, saying, mends };
}

/** Empties the database and fills it. */
export async function anew(server: LocalServer, statements: string): Promise<void> {
  await sqlAsRoot(server, `DROP DATABASE shop; CREATE DATABASE shop; USE shop; ${statements}`);
}
