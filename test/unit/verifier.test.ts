import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it, vi } from "vitest";
import { Coverage } from "../../src/copy/coverage.ts";
import type { KeyId } from "../../src/engines/engine.ts";
import type { MoveWork, TableWork } from "../../src/job/table-work.ts";
import { DirtyKeys } from "../../src/tail/dirty-keys.ts";
import type { Tail } from "../../src/tail/tail.ts";
import { Verifier } from "../../src/verify/verifier.ts";

/** One verified table with one key; both sides are maps, so that each interleaving can be played by hand. */
function stage() {
  const whole = (): Coverage => {
    const coverage = new Coverage((a, b) => Number(a) - Number(b));
    coverage.markCopied(coverage.mark(undefined));
    return coverage;
  };
  const source = new Map<KeyId, string>([["1", "new"]]);
  const target = new Map<KeyId, string>([["1", "old"]]);
  const clock = { digestMs: 0 };
  const digests = (rows: Map<KeyId, string>) => ({
    async at(_shape: unknown, _slice: unknown, keys: readonly KeyId[]) {
      const found = new Map(
        keys.flatMap((key) => (rows.has(key) ? [[key, rows.get(key) ?? ""] as const] : [])),
      );
      await delay(clock.digestMs);
      return found;
    },
  });
  const dirty = new DirtyKeys();
  const table = {
    shape: { name: "t" },
    copied: whole(),
    verified: whole(),
    dirty,
    unproven: new Set<KeyId>(["1"]),
  } as unknown as TableWork;
  const move = {
    from: "s0",
    to: "s1",
    slice: [],
    source: { digests: digests(source), catalog: { formatKey: (_: unknown, key: KeyId) => key } },
    target: { digests: digests(target) },
    tables: [table],
  } as unknown as MoveWork;
  return { source, target, clock, dirty, table, move };
}

function tailThat(passed: (n: number) => void): Tail {
  let n = 0;
  return {
    throwIfFailed: () => undefined,
    raise: () => Promise.resolve({ n: ++n }),
    passed: (barrier: { n: number }) => Promise.resolve(passed(barrier.n)),
  } as unknown as Tail;
}

async function whileVerifying(verifier: Verifier, work: () => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const run = verifier.run(stop.signal).catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
  await work();
  stop.abort();
  await run;
}

describe("the verifier", () => {
  it("reports a key that differs although nothing moves", async () => {
    const { move } = stage();
    const verifier = new Verifier(
      move,
      tailThat(() => undefined),
    );
    await whileVerifying(verifier, () => vi.waitFor(() => expect(verifier.mismatches).toHaveLength(1)));
    expect(() => verifier.throwIfDifferent()).toThrow(/t: 1 is different/);
  });

  it("does not report a key whose recopy lands while the second barrier is awaited", async () => {
    const { move, dirty, target, table } = stage();
    // Marked before the watch begins, and still in the recopier's hands when the wait for rest ends.
    dirty.mark("1", 1);
    dirty.take(1, () => true);
    let resolved = false;
    const verifier = new Verifier(
      move,
      tailThat((n) => {
        if (n < 2 || resolved) return;
        resolved = true;
        target.set("1", "new");
        dirty.resolve(["1"]);
      }),
    );
    await whileVerifying(verifier, () =>
      vi.waitFor(() => expect([resolved, table.unproven.size]).toEqual([true, 0]), { timeout: 10_000 }),
    );
    expect(verifier.mismatches).toEqual([]);
  });

  it("compares inside the gate what the background has in hand", async () => {
    const { move, clock } = stage();
    clock.digestMs = 200;
    const verifier = new Verifier(
      move,
      tailThat(() => undefined),
    );
    await whileVerifying(verifier, async () => {
      await delay(20);
      await expect(verifier.verifyLast(new AbortController().signal)).rejects.toMatchObject({
        code: "E_MISMATCH",
      });
    });
  });

  it("keeps a key unproven that is written again while it is looked at", async () => {
    const { move, clock, dirty, target, table } = stage();
    target.set("1", "new");
    clock.digestMs = 100;
    const verifier = new Verifier(
      move,
      tailThat(() => undefined),
    );
    await whileVerifying(verifier, async () => {
      await delay(20);
      dirty.mark("1", 2);
      await delay(150);
      expect(table.unproven.has("1")).toBe(true);
    });
  });
});
