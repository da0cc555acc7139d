import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Checkpoints } from "../../src/tail/checkpoints.ts";
import { LagMeter } from "../../src/tail/lag-meter.ts";
import { DirtyKeys } from "../../src/tail/dirty-keys.ts";

describe("dirty keys", () => {
  it("never gives a key to two batches, and keeps a key that is marked again while it is taken", () => {
    const dirty = new DirtyKeys();
    dirty.mark("1", 1);
    expect(dirty.take(10, () => true)).toEqual(["1"]);
    dirty.mark("1", 2);
    expect(dirty.take(10, () => true)).toEqual([]);
    expect(dirty.oldest()).toBe(1);
    dirty.resolve(["1"]);
    expect(dirty.oldest()).toBe(2);
    expect(dirty.take(10, () => true)).toEqual(["1"]);
  });

  it("keeps the oldest batch of a key that is put back", () => {
    const dirty = new DirtyKeys();
    dirty.mark("1", 1);
    const keys = dirty.take(10, () => true);
    dirty.mark("1", 5);
    dirty.putBack(keys);
    expect(dirty.oldest()).toBe(1);
    expect(dirty.size).toBe(1);
  });

  it("always reports the oldest unresolved batch", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(5), fc.nat(3)), { maxLength: 80 }), (steps) => {
        const dirty = new DirtyKeys();
        const open = new Map<string, number>();
        const taken: { keys: string[]; since: Map<string, number> }[] = [];
        let batch = 0;
        for (const [key, action] of steps) {
          batch += 1;
          if (action <= 1) {
            dirty.mark(String(key), batch);
            if (!open.has(String(key))) open.set(String(key), batch);
          } else if (action === 2) {
            const keys = dirty.take(2, () => true);
            taken.push({ keys, since: new Map(keys.map((k) => [k, open.get(k) ?? -1])) });
            for (const k of keys) open.delete(k);
          } else {
            const group = taken.shift();
            if (group === undefined) continue;
            if (key % 2 === 0) dirty.resolve(group.keys);
            else {
              dirty.putBack(group.keys);
              for (const [k, since] of group.since) open.set(k, Math.min(since, open.get(k) ?? since));
            }
          }
          const all = [...open.values(), ...taken.flatMap(({ since }) => [...since.values()])];
          expect(dirty.oldest()).toBe(all.length === 0 ? undefined : Math.min(...all));
        }
      }),
    );
  });

  it("a watch sees only marks of its own keys, from its start to its end", () => {
    const dirty = new DirtyKeys();
    dirty.mark("1", 1);
    const watch = dirty.watch(["1", "2"]);
    dirty.mark("2", 2);
    dirty.mark("3", 2);
    expect([watch.touched("1"), watch.touched("2"), watch.touched("3")]).toEqual([false, true, false]);
    watch[Symbol.dispose]();
    dirty.mark("1", 3);
    expect(watch.touched("1")).toBe(false);
  });
});

describe("checkpoints", () => {
  it("saves the newest position below the oldest unresolved batch, and never goes back", () => {
    const checkpoints = new Checkpoints("p0");
    for (const batch of [1, 2, 3, 4]) checkpoints.reached(batch, `p${batch}`);
    const next = checkpoints.nextToSave(3);
    expect(next?.position).toBe("p2");
    if (next !== undefined) checkpoints.markSaved(next);
    expect(checkpoints.nextToSave(3)).toBeUndefined();
    expect(checkpoints.nextToSave(1)).toBeUndefined();
    expect(checkpoints.nextToSave(undefined)?.position).toBe("p4");
  });

  it("a key pinned at the saved checkpoint holds every later position back", () => {
    const checkpoints = new Checkpoints("p0");
    checkpoints.reached(1, "p1");
    const first = checkpoints.nextToSave(undefined);
    if (first !== undefined) checkpoints.markSaved(first);
    checkpoints.reached(2, "p2");
    expect(checkpoints.nextToSave(checkpoints.saved.batch + 1)).toBeUndefined();
  });

  it("stays bounded and still knows a position near every batch", () => {
    const checkpoints = new Checkpoints("p0");
    for (let batch = 1; batch <= 100_000; batch += 1) checkpoints.reached(batch, String(batch));
    const next = checkpoints.nextToSave(100_001);
    expect(next?.position).toBe("100000");
    expect(checkpoints.nextToSave(50_000)?.batch).toBeGreaterThan(48_000);
    expect(checkpoints.nextToSave(2_000)?.batch).toBeGreaterThan(1);
  });
});

describe("lag", () => {
  it("is the age of the oldest marker that the log has not shown", () => {
    let now = 0;
    const lag = new LagMeter(() => now);
    lag.raised(1, 0);
    now = 400;
    expect(lag.lagMs()).toBe(400);
    lag.passed(1);
    now = 5_000;
    expect(lag.lagMs()).toBe(400);
  });

  it("counts a marker that the log shows before its commit is answered as passed", () => {
    let now = 0;
    const lag = new LagMeter(() => now);
    lag.passed(7);
    now = 12;
    lag.raised(7, 0);
    now = 1_000;
    expect(lag.lagMs()).toBe(12);
  });
});
