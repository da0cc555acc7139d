import { resolve } from "node:path";
import { hostIdentity, type HostIdentity } from "./host-identity.ts";
import { CheckedStore, type Seen } from "./limits.ts";
import { SqliteAcks } from "./sqlite-acks.ts";
import { SqliteBackend, type SqliteParts } from "./sqlite-backend.ts";
import { openDatabase } from "./sqlite-database.ts";
import { checkExisting, prepareFile } from "./sqlite-file.ts";
import { initialiseStore, readStoreId } from "./sqlite-schema.ts";
import type { ControlStore } from "./store.ts";

export interface SqliteStoreOptions {
  /** What this client knows of the store from before. */
  readonly seen?: Seen;
  /** Another one only in tests. */
  readonly host?: HostIdentity;
  /** How many of the newest revisions a watch can still ask for. */
  readonly keepRevisions?: number;
}

/** Opens the store, and makes it when there is none. */
export async function openSqliteStore(file: string, options: SqliteStoreOptions = {}): Promise<ControlStore> {
  const path = resolve(file);
  const host = options.host ?? hostIdentity();
  const { warnings } = prepareFile(path);
  await using opened = new AsyncDisposableStack();
  const database = await openDatabase(path, { readOnly: false, synchronous: "FULL" });
  opened.defer(() => database.close());
  const storeId = await initialiseStore(path, database, host);
  const acks = await SqliteAcks.open(`${path}-acks`);
  opened.defer(() => acks.close());
  return keep(opened, { path, database, acks, storeId, host, warnings }, options);
}

/** Opens the store for reading only, beside a runner or without one; undefined when there is none, and makes none. */
export async function openExistingSqliteStore(
  file: string,
  options: SqliteStoreOptions = {},
): Promise<ControlStore | undefined> {
  const path = resolve(file);
  const host = options.host ?? hostIdentity();
  const { exists, warnings } = checkExisting(path);
  if (!exists) return undefined;
  await using opened = new AsyncDisposableStack();
  const database = await openDatabase(path, { readOnly: true, synchronous: "FULL" });
  opened.defer(() => database.close());
  const storeId = await readStoreId(path, database, host);
  if (storeId === undefined) return undefined;
  return keep(opened, { path, database, acks: undefined, storeId, host, warnings }, options);
}

/** From here on the store closes what was opened. */
function keep(
  opened: AsyncDisposableStack,
  parts: Omit<SqliteParts, "keepRevisions">,
  { seen, keepRevisions }: SqliteStoreOptions,
): ControlStore {
  const store = new CheckedStore(new SqliteBackend({ ...parts, keepRevisions }), seen);
  opened.move();
  return store;
}
