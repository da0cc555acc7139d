/** Sessions of the product's engine at a test server, with the tool's account unless another is named. */
import type { Claim, Endpoint } from "../../src/engines/engine.ts";
import { MysqlSession } from "../../src/engines/mysql/session.ts";
import type { LocalServer } from "../../src/lib/local-server.ts";
import { connect, passwords } from "./servers.ts";

export interface SessionLabOptions {
  readonly database: string;
  readonly shard?: string;
  readonly user?: string;
  readonly password?: string;
  readonly signal?: AbortSignal;
  /** A session that may write for a job. */
  readonly claim?: Claim;
}

export function endpointOf(server: LocalServer, options: SessionLabOptions): Endpoint {
  return {
    shard: options.shard ?? "s0",
    hosts: [{ host: server.host, port: server.port }],
    user: options.user ?? "shardlift",
    password: options.password ?? passwords.shardlift,
    database: options.database,
  };
}

export function openSession(server: LocalServer, options: SessionLabOptions): Promise<MysqlSession> {
  return MysqlSession.open(endpointOf(server, options), {
    signal: options.signal ?? new AbortController().signal,
    ...(options.claim === undefined ? {} : { claim: options.claim }),
  });
}

export function claimOf(job: string, token: number, storeId = "store-1"): Claim {
  return { storeId, job, token };
}

/** A session whose job has taken its claim. */
export async function openRunner(server: LocalServer, options: SessionLabOptions): Promise<MysqlSession> {
  const session = await openSession(server, options);
  try {
    await session.ledger.claim();
    return session;
  } catch (error) {
    await session[Symbol.asyncDispose]();
    throw error;
  }
}

/** Runs statements as the server's owner, one after another. */
export async function sqlAsRoot(server: LocalServer, statements: string, database?: string): Promise<void> {
  await using root = await connect(server, "root", {
    multipleStatements: true,
    ...(database === undefined ? {} : { database }),
  });
  await root.query(statements);
}
