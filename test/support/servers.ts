/**
 * Real servers for the suites: one `useServer` in a suite gives it a server of its own, with accounts, that is
 * gone when the suite ends.
 *
 *   describeServers("the gate", (flavor) => {
 *     const shard = useServer(flavor, { databases: ["shop"] });
 *     test("…", async () => {
 *       await using root = await connect(shard(), "root");
 *     });
 *   });
 *
 * A suite whose server program is not on this machine is reported as skipped; with CI=true it fails instead.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Connection, type ConnectionOptions, createConnection } from "mysql2/promise";
import { afterAll, beforeAll, describe, inject } from "vitest";
import { type LocalServer, type LocalServerOptions, startLocalServer } from "../../src/lib/local-server.ts";
import type { ServerFlavor } from "../../src/lib/server-binary.ts";
import { toolGrants } from "../../src/demo/shop-servers.ts";
import { askedFlavors } from "./flavors.ts";

/** The account of the tool, of the application, and the server's owner (no password). */
export type TestUser = "root" | "shardlift" | "app";

export const passwords: Readonly<Record<TestUser, string>> = {
  root: "",
  shardlift: "tool-secret",
  app: "app-secret",
};

/** Both flavors, or those that SHARDLIFT_TEST_FLAVORS names (comma separated). */
export const flavors: readonly ServerFlavor[] = askedFlavors();

export type TestServerOptions = Pick<LocalServerOptions, "extraArgs" | "bufferPoolMiB" | "redoLogMiB"> & {
  /** Made at the start; the application's account may read and write them. */
  readonly databases?: readonly string[];
};

/** Runs the suite once per flavor. */
export function describeServers(name: string, suite: (flavor: ServerFlavor) => void): void {
  const missing = inject("missingServers");
  for (const flavor of flavors) {
    const skip = missing.includes(flavor) && process.env["CI"] !== "true";
    describe.skipIf(skip)(`${name} (${flavor})`, () => {
      suite(flavor);
    });
  }
}

/** A server for the surrounding suite; call the result inside tests and hooks that are registered after it. */
export function useServer(flavor: ServerFlavor, options: TestServerOptions = {}): () => LocalServer {
  let server: LocalServer | undefined;
  beforeAll(async () => {
    server = await startTestServer(flavor, options);
  });
  afterAll(async () => server?.[Symbol.asyncDispose]());
  return () => {
    if (server === undefined) throw new Error(`the ${flavor} server is used before the suite has started it`);
    return server;
  };
}

/** For suites that need a server for a part of one test: `await using server = await startTestServer(…)`. */
export async function startTestServer(
  flavor: ServerFlavor,
  options: TestServerOptions = {},
): Promise<LocalServer> {
  const { databases = [], ...sizes } = options;
  const directory = await mkdtemp(join(tmpdir(), `shardlift-test-${flavor}-`));
  const remove = async (): Promise<void> => rm(directory, { recursive: true, force: true });
  let server: LocalServer;
  try {
    // Small: up to eight servers share a machine of two cores.
    server = await startLocalServer({ flavor, directory, bufferPoolMiB: 128, redoLogMiB: 96, ...sizes });
  } catch (error) {
    await remove();
    throw error;
  }
  const dispose = async (): Promise<void> => {
    // Nobody needs its data any more, and MySQL's orderly end takes two seconds.
    await server.kill("SIGKILL");
    await server.stop();
    await remove();
  };
  try {
    await createAccounts(server);
    for (const database of databases) await createDatabase(server, database);
  } catch (error) {
    await dispose();
    throw error;
  }
  // The folder is ours and goes with the server.
  server[Symbol.asyncDispose] = dispose;
  return server;
}

/** A plain driver connection, without any of the product's settings. */
export async function connect(
  server: LocalServer,
  user: TestUser,
  options: ConnectionOptions = {},
): Promise<Connection> {
  return createConnection({
    host: server.host,
    port: server.port,
    user,
    password: passwords[user],
    ...options,
  });
}

export async function createDatabase(server: LocalServer, name: string): Promise<void> {
  await using root = await connect(server, "root");
  await root.query(`CREATE DATABASE \`${name}\``);
  await root.query(`GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON \`${name}\`.* TO app@'%'`);
}

async function createAccounts(server: LocalServer): Promise<void> {
  await using root = await connect(server, "root");
  for (const user of ["shardlift", "app"] as const) {
    await root.query(`CREATE USER ${user}@'%' IDENTIFIED BY '${passwords[user]}'`);
  }
  await root.query(`GRANT ${toolGrants[server.flavor]} ON *.* TO shardlift@'%'`);
}
