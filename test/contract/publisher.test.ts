import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  rmdir,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openSqliteStore } from "../../src/control/sqlite-store.ts";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import type { RoutingMap } from "../../src/model/routing-map.ts";
import { FilePublisher } from "../../src/publish/file-publisher.ts";
import { publishCurrent } from "../../src/publish/publish-current.ts";
import type { Publisher } from "../../src/publish/publisher.ts";
import { RoutingStore } from "../../src/routing/routing-store.ts";

/** One reader of the map; `breakIt` makes it unusable, `mendIt` usable again, `readEpoch` looks past the publisher. */
interface Reader {
  readonly publisher: Publisher;
  readonly again: () => Publisher;
  readonly readEpoch: () => Promise<number | undefined>;
  readonly breakIt: () => Promise<void>;
  readonly mendIt: () => Promise<void>;
}

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "shardlift-publish-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const storeId = "11111111-1111-1111-1111-111111111111";
const signal = new AbortController().signal;

const readers: readonly { name: string; make: () => Reader }[] = [{ name: "file", make: fileReader }];

describe.each(readers)("publisher: $name", ({ make }) => {
  test("is stale before, applied after, and applied once more when it is repeated", async () => {
    const { publisher, again, readEpoch } = make();
    expect(await publisher.confirm(mapAt(1))).toBe("stale");
    for (const epoch of [1, 2]) {
      await publisher.publish(mapAt(epoch), signal);
      await publisher.publish(mapAt(epoch), signal);
      expect(await publisher.confirm(mapAt(epoch))).toBe("applied");
      expect(await again().confirm(mapAt(epoch))).toBe("applied");
      expect(await readEpoch()).toBe(epoch);
    }
  });

  test("never takes its reader back to a lower epoch", async () => {
    const { publisher, readEpoch } = make();
    await publisher.publish(mapAt(3), signal);
    await publisher.publish(mapAt(2), signal);
    expect(await readEpoch()).toBe(3);
    expect(await publisher.confirm(mapAt(2))).toBe("stale");
    expect(await publisher.confirm(mapAt(3))).toBe("applied");
  });

  test("says what it would do and does not do it", async () => {
    const { publisher, readEpoch } = make();
    const steps = publisher.preview(mapAt(1), mapAt(2));
    expect(steps.map((step) => step.what).join()).toContain("epoch 2");
    expect(await readEpoch()).toBeUndefined();
  });

  test("fails with E_PUBLISH when the reader can not be reached, and works when it can be again", async () => {
    const { publisher, readEpoch, breakIt, mendIt } = make();
    await breakIt();
    await expect(publisher.publish(mapAt(1), signal)).rejects.toMatchObject({ code: "E_PUBLISH" });
    expect(await publisher.confirm(mapAt(1))).not.toBe("applied");
    await mendIt();
    await publisher.publish(mapAt(1), signal);
    expect(await publisher.confirm(mapAt(1))).toBe("applied");
    expect(await readEpoch()).toBe(1);
  });

  test("obeys its signal", async () => {
    const { publisher, readEpoch } = make();
    await expect(publisher.publish(mapAt(1), AbortSignal.abort())).rejects.toThrow("aborted");
    expect(await readEpoch()).toBeUndefined();
  });
});

describe("the published file", () => {
  const path = (): string => join(folder, "routing.json");
  const publisher = (): FilePublisher => new FilePublisher({ path: path(), storeId });

  test("is the documented JSON, and nothing else is left in the folder", async () => {
    await publisher().publish(mapAt(2), signal);
    expect(JSON.parse(await readFile(path(), "utf8"))).toEqual({
      schema: "shardlift.map/v1",
      store: storeId,
      ...mapAt(2),
    });
    expect(await readdir(folder)).toEqual(["routing.json"]);
    expect((await stat(path())).mode & 0o777).toBe(0o644);
  });

  test("is whole for a reader at every moment", async () => {
    await publisher().publish(mapAt(1), signal);
    const stop = new AbortController();
    let reads = 0;
    const reading = (async () => {
      let last = 0;
      while (!stop.signal.aborted) {
        const { epoch } = JSON.parse(await readFile(path(), "utf8")) as { epoch: number };
        expect(epoch).toBeGreaterThanOrEqual(last);
        last = epoch;
        reads++;
      }
    })();
    for (let epoch = 2; epoch <= 40; epoch++) await publisher().publish(mapAt(epoch), signal);
    stop.abort();
    await reading;
    expect(reads).toBeGreaterThan(10);
  });

  test("keeps its mode, and a link to it stays a link", async () => {
    const target = join(folder, "elsewhere.json");
    await writeFile(target, "");
    await chmod(target, 0o640);
    await symlink(target, path());
    await publisher().publish(mapAt(1), signal);
    expect((await stat(target)).mode & 0o777).toBe(0o640);
    expect(JSON.parse(await readFile(target, "utf8"))).toMatchObject({ epoch: 1 });
    expect((await readdir(folder)).toSorted()).toEqual(["elsewhere.json", "routing.json"]);
  });

  test.each([
    ["something that is not a map", "version: 1\n", "not a routing map"],
    [
      "another store's map",
      JSON.stringify({ schema: "shardlift.map/v1", store: "other", ...mapAt(9) }),
      "another control store",
    ],
  ])("is not replaced when it is %s", async (_, content, message) => {
    await writeFile(path(), content);
    await expect(publisher().publish(mapAt(1), signal)).rejects.toThrow(message);
    expect(await publisher().confirm(mapAt(1))).toBe("unknown");
    expect(await readFile(path(), "utf8")).toBe(content);
  });

  test("that was changed by hand within its epoch is put right", async () => {
    await publisher().publish(mapAt(2), signal);
    await writeFile(path(), (await readFile(path(), "utf8")).replace('"s1"', '"s9"'));
    expect(await publisher().confirm(mapAt(2))).toBe("stale");
    await publisher().publish(mapAt(2), signal);
    expect(await publisher().confirm(mapAt(2))).toBe("applied");
  });
});

test("publishing the current map reaches every publisher and reports each by itself, also from two processes' stores", async () => {
  const stores = [
    await openSqliteStore(join(folder, "control.db")),
    await openSqliteStore(join(folder, "control.db")),
  ];
  const [store] = stores;
  if (store === undefined) throw new Error("no store");
  await new RoutingStore(store).initialise(mapAt(1));
  const files = [join(folder, "a.json"), join(folder, "missing", "b.json")];
  const publishers = files.map((path) => new FilePublisher({ path, storeId: store.storeId }));
  const results = await Promise.all(stores.map(async (one) => publishCurrent(one, publishers, signal)));
  for (const result of results) {
    expect(result).toMatchObject([
      { publisher: `file ${files[0]}`, epoch: 1, state: "applied" },
      { publisher: `file ${files[1]}`, epoch: 1, state: "unknown", cause: { code: "E_PUBLISH" } },
    ]);
  }
  expect((await store.list("publish-lock")).entries).toEqual([]);
  for (const one of stores) await one.close();
});

function mapAt(epoch: number): RoutingMap {
  const ranges = [
    { from: MIN, to: boundAt(String(epoch * 10)), shard: "s0" },
    { from: boundAt(String(epoch * 10)), to: MAX, shard: "s1" },
  ];
  return {
    epoch,
    keyspaces: {
      shop: { function: "range", keyType: "integer", tables: { orders: { key: "user_id" } }, ranges },
    },
  };
}

function fileReader(): Reader {
  const path = join(folder, "routing.json");
  const make = (): FilePublisher => new FilePublisher({ path, storeId });
  return {
    publisher: make(),
    again: make,
    readEpoch: async () => {
      const text = await readFile(path, "utf8").catch(() => undefined);
      return text === undefined ? undefined : (JSON.parse(text) as { epoch: number }).epoch;
    },
    // A folder in its place: neither read nor replaced, not even by root.
    breakIt: async () => mkdir(path),
    mendIt: async () => rmdir(path),
  };
}
