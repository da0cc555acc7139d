import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { hostIdentity } from "../../src/control/host-identity.ts";
import {
  openExistingSqliteStore,
  openSqliteStore,
  type SqliteStoreOptions,
} from "../../src/control/sqlite-store.ts";
import { StoreWentBack, type ControlStore } from "../../src/control/store.ts";

/** What only the SQLite backend promises: its files, its one host, and waiting without blocking the process. */
let folder: string;
let file: string;
let opened: ControlStore[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "shardlift-sqlite-"));
  file = join(folder, "store", "control.db");
  opened = [];
});
afterEach(async () => {
  for (const store of opened) await store.close();
  await rm(folder, { recursive: true });
});

async function open(options?: SqliteStoreOptions): Promise<ControlStore> {
  const store = await openSqliteStore(file, options);
  opened.push(store);
  return store;
}

async function openToRead(options?: SqliteStoreOptions): Promise<ControlStore | undefined> {
  const store = await openExistingSqliteStore(file, options);
  if (store !== undefined) opened.push(store);
  return store;
}

const put = async (store: ControlStore, key: string): Promise<number> =>
  (await store.txn([{ key, rev: 0 }], [{ put: key, value: Buffer.from("v") }])).rev;

describe("files", () => {
  test("are the operator's own: 0600 in a 0700 folder, whatever the umask", async () => {
    const umask = process.umask(0);
    try {
      await put(await open(), "k");
    } finally {
      process.umask(umask);
    }
    expect((await stat(join(folder, "store"))).mode & 0o777).toBe(0o700);
    const names = await readdir(join(folder, "store"));
    expect(names.toSorted()).toEqual(
      ["", "-acks", "-acks-shm", "-acks-wal", "-shm", "-wal"].map((end) => `control.db${end}`),
    );
    for (const name of names) expect((await stat(join(folder, "store", name))).mode & 0o777).toBe(0o600);
  });

  test.each(["control.db", "control.db-wal", "control.db-acks"])(
    "are refused when %s is a symbolic link",
    async (name) => {
      await mkdir(join(folder, "store"), { mode: 0o700 });
      await writeFile(join(folder, "elsewhere"), "", { mode: 0o600 });
      await symlink(join(folder, "elsewhere"), join(folder, "store", name));
      await expect(open()).rejects.toMatchObject({
        code: "E_CONTROL_STORE",
        message: expect.stringContaining("symbolic link"),
      });
      expect((await stat(join(folder, "elsewhere"))).size).toBe(0);
    },
  );

  test("are refused where other users could write them", async () => {
    await (await open()).close();
    await chmod(file, 0o666);
    await expect(open()).rejects.toThrow("can be written by other users");
    await chmod(file, 0o600);
    await chmod(join(folder, "store"), 0o777);
    await expect(openToRead()).rejects.toThrow("can be written by other users");
  });

  test("of another program are left alone", async () => {
    await mkdir(join(folder, "store"), { mode: 0o700 });
    const other = new DatabaseSync(file);
    other.exec("CREATE TABLE t (x)");
    other.close();
    await chmod(file, 0o600);
    await expect(open()).rejects.toThrow("another program");
    await writeFile(
      file,
      "not a database at all, but longer than its header of one hundred bytes; ".repeat(3),
      { mode: 0o600 },
    );
    await expect(open()).rejects.toMatchObject({ code: "E_CONTROL_STORE" });
  });
});

describe("reading only", () => {
  test("makes nothing where there is no store", async () => {
    expect(await openToRead()).toBeUndefined();
    expect(await readdir(folder)).toEqual([]);
    await mkdir(join(folder, "store"), { mode: 0o700 });
    expect(await openToRead()).toBeUndefined();
    expect(await readdir(join(folder, "store"))).toEqual([]);
  });

  test("works beside a runner that writes, and after it has closed", async () => {
    const runner = await open();
    const rev = await put(runner, "a");
    const reader = await openToRead();
    expect((await reader?.get("a"))?.rev).toBe(rev);
    await put(runner, "b");
    expect((await reader?.list("b"))?.entries).toHaveLength(1);
    await expect(reader?.grant(1000)).rejects.toThrow("reading only");
    await reader?.close();
    await runner.close();
    expect((await (await openToRead())?.get("b"))?.key).toBe("b");
  });

  test("shows a lease that ran out as gone, although a reader can not clear it away", async () => {
    const runner = await open();
    const lease = await runner.grant(500);
    await runner.txn([{ key: "l", rev: 0 }], [{ put: "l", value: Buffer.from("v"), lease: lease.id }]);
    await runner.close();
    const reader = await openToRead();
    const end = performance.now() + 10_000;
    while ((await reader?.get("l")) !== undefined && performance.now() < end) await delay(20);
    expect(await reader?.get("l")).toBeUndefined();
    expect((await reader?.list("l"))?.entries).toEqual([]);
  });
});

describe("one host", () => {
  const here = hostIdentity();

  test("another host's store is refused, for reading too", async () => {
    await (await open()).close();
    const host = { ...here, hostName: "other", hostId: "other", bootId: "other" };
    await expect(open({ host })).rejects.toThrow(`control store of host ${here.hostName}`);
    await expect(openToRead({ host })).rejects.toMatchObject({ code: "E_CONTROL_STORE" });
  });

  test("a container of the same machine is the same host", async () => {
    const { storeId } = await open();
    expect((await open({ host: { ...here, hostName: "container", hostId: "container" } })).storeId).toBe(
      storeId,
    );
  });

  test("a restart of the machine ends every lease", async () => {
    const before = await open();
    const lease = await before.grant(3_600_000);
    await before.txn([{ key: "l", rev: 0 }], [{ put: "l", value: Buffer.from("v"), lease: lease.id }]);
    await before.close();
    const after = await open({ host: { ...here, bootId: "the next boot" } });
    expect(await after.get("l")).toBeUndefined();
    await put(after, "l");
    expect((await after.list("l")).rev).toBe(3);
  });
});

describe("a store that went back", () => {
  test("is noticed by everybody who has it open when the file is replaced", async () => {
    const store = await open();
    await put(store, "a");
    await store.close();
    await copyFile(file, join(folder, "backup"));
    const running = await open();
    await put(running, "b");
    await rename(join(folder, "backup"), file);
    await expect(running.get("a")).rejects.toThrow(StoreWentBack);
    await expect(put(running, "c")).rejects.toMatchObject({ code: "E_STORE_WENT_BACK", exit: 5 });
  });

  test("is noticed when the file is removed", async () => {
    const store = await open();
    await rm(file);
    await expect(store.revision()).rejects.toThrow(StoreWentBack);
  });

  test("is noticed by a client that remembers its revision or its id", async () => {
    const store = await open();
    const rev = await put(store, "a");
    const { storeId } = store;
    await store.close();
    await expect((await open({ seen: { storeId, rev } })).revision()).resolves.toBe(rev);
    await expect((await open({ seen: { storeId, rev: rev + 1 } })).revision()).rejects.toThrow(StoreWentBack);
    await expect(open({ seen: { storeId: "another", rev: 0 } })).rejects.toThrow(StoreWentBack);
  });
});

describe("a lock of another process", () => {
  test("is waited for without blocking this process: the lock here is let go by the very process that waits", async () => {
    const store = await open();
    const other = new DatabaseSync(file);
    other.exec("BEGIN IMMEDIATE");
    const writing = put(store, "k");
    // Readers are not held up at all.
    expect(await store.get("k")).toBeUndefined();
    await delay(200);
    other.exec("COMMIT");
    other.close();
    expect(await writing).toBe(1);
  });

  test("that does not go by the deadline is an error by which nothing was written", async () => {
    const store = await open();
    const other = new DatabaseSync(file);
    other.exec("BEGIN IMMEDIATE");
    await expect(
      store.txn([{ key: "k", rev: 0 }], [{ put: "k", value: Buffer.from("v") }], { deadlineMs: 100 }),
    ).rejects.toMatchObject({ code: "E_CONTROL_STORE", retryable: true });
    other.exec("COMMIT");
    other.close();
    expect(await store.get("k")).toBeUndefined();
    expect(await put(store, "k")).toBe(1);
  });
});

test("is whole after many writes: integrity, and events for every revision that is kept", async () => {
  const store = await open({ keepRevisions: 64 });
  for (let n = 0; n < 200; n++) await put(store, `k/${n}`);
  await store.close();
  const plain = new DatabaseSync(file, { readOnly: true });
  expect(plain.prepare("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  const row = plain
    .prepare("SELECT count(DISTINCT e.rev) AS n, max(c.kept_after) AS kept FROM event e, counter c")
    .get();
  expect(row?.["n"]).toBe(200 - Number(row?.["kept"]));
  plain.close();
});
