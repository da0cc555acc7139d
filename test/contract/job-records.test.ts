import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { getBlob, putBlob } from "../../src/control/blobs.ts";
import { JobClaim } from "../../src/control/job-claim.ts";
import { createJob, holdingOf, listJobs, readJob } from "../../src/control/job-records.ts";
import { readJournal } from "../../src/control/journal.ts";
import { claimKey, runnerKey } from "../../src/control/keys.ts";
import { thisRunner } from "../../src/control/runner.ts";
import { lockSlice, readSliceLocks, unlockSlices } from "../../src/control/slice-locks.ts";
import { openSqliteStore } from "../../src/control/sqlite-store.ts";
import type { ControlStore } from "../../src/control/store.ts";
import { type Bound, boundAt, MAX, MIN } from "../../src/model/key.ts";
import { withFaults } from "../support/faulty-store.ts";

let folder: string;
let file: string;
let store: ControlStore;
let children: ChildProcess[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "shardlift-jobs-"));
  file = join(folder, "control.db");
  store = await openSqliteStore(file);
  children = [];
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  await store.close();
  await rm(folder, { recursive: true });
});

const newJob = (id = "j1") => ({
  id,
  kind: "split",
  state: "planned" as const,
  planHash: "abc",
  createdAt: new Date().toISOString(),
  flags: { mode: "auto" },
});

const take = async (job = "j1", ttlMs?: number): Promise<JobClaim> =>
  JobClaim.take(store, job, { runner: thisRunner(), ...(ttlMs !== undefined && { ttlMs }) });

/** A process of its own; resolves with the first line that it says. */
async function child(mode: "claim" | "race", job: string): Promise<{ said: string; process: ChildProcess }> {
  const script = fileURLToPath(new URL("../support/control-child.ts", import.meta.url));
  const process = spawn(globalThis.process.execPath, [script, mode, file, job], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(process);
  const said = await new Promise<string>((resolve) => {
    createInterface(process.stdout).once("line", resolve);
  });
  return { said, process };
}

describe("a job's record", () => {
  test("is made once, keeps the job's own fields, and is listed by age", async () => {
    await createJob(store, newJob());
    await createJob(store, { ...newJob("j0"), createdAt: new Date(Date.now() + 1000).toISOString() });
    await expect(createJob(store, newJob())).rejects.toMatchObject({ code: "E_USAGE" });
    expect((await readJob(store, "j1"))?.record).toMatchObject({ flags: { mode: "auto" }, state: "planned" });
    expect((await listJobs(store)).map(({ record }) => record.id)).toEqual(["j1", "j0"]);
    expect(await readJob(store, "nobody")).toBeUndefined();
  });

  test("changes only under the claim", async () => {
    await createJob(store, newJob());
    const first = await take();
    await first.update((record) => ({ ...record, state: "copying" }));
    await first.release();
    const second = await take();
    await expect(first.update((record) => ({ ...record, state: "failed" }))).rejects.toMatchObject({
      code: "E_JOB_HELD",
    });
    await expect(first.append("late")).rejects.toMatchObject({ code: "E_JOB_HELD" });
    expect((await readJob(store, "j1"))?.record.state).toBe("copying");
    await second.release();
  });

  test("takes concurrent changes of one runner in turn", async () => {
    await createJob(store, newJob());
    const claim = await take();
    await Promise.all(
      Array.from({ length: 20 }, async (_, n) => {
        await claim.update((record) => ({ ...record, [`field${n}`]: n }));
        await claim.append(`entry ${n}`);
        if (n % 7 === 0) await claim.retake();
      }),
    );
    expect(
      Object.keys((await readJob(store, "j1"))?.record ?? {}).filter((key) => key.startsWith("field")),
    ).toHaveLength(20);
    expect(await readJournal(store, "j1")).toHaveLength(20);
    expect(claim.lost.aborted).toBe(false);
    await claim.release();
  });

  test("survives a lost answer without a false conflict", async () => {
    const faults: ("drop-after" | "ok")[] = ["drop-after"];
    const faulty = withFaults(store, faults);
    await createJob(faulty, newJob());
    faults.push("drop-after");
    const claim = await JobClaim.take(faulty, "j1", { runner: thisRunner() });
    expect((await holdingOf(store, "j1"))?.token).toBe(claim.claim.token);
    faults.push("drop-after");
    await claim.append("one");
    faults.push("drop-after");
    await claim.update((record) => ({ ...record, state: "ready" }));
    await claim.append("two");
    expect((await readJournal(store, "j1")).map((entry) => entry.kind)).toEqual(["one", "two"]);
    await claim.release();
  });
});

describe("a claim", () => {
  beforeEach(async () => {
    await createJob(store, newJob());
  });

  test("goes to exactly one of many processes that want it at once", async () => {
    const results = await Promise.all(Array.from({ length: 4 }, async () => child("race", "j1")));
    const said = results.map((result) => result.said).toSorted();
    expect(said.slice(0, 3)).toEqual(Array.from({ length: 3 }, () => "refused E_JOB_HELD"));
    expect(said[3]).toMatch(/^taken \d+$/);
    await expect.poll(async () => (await readJournal(store, "j1")).length).toBe(1);
  }, 60_000);

  test("is refused while its holder lives, naming the process and the host", async () => {
    const { process } = await child("claim", "j1");
    await expect(take()).rejects.toMatchObject({
      code: "E_JOB_HELD",
      exit: 10,
      message: expect.stringMatching(new RegExp(`process ${process.pid} on `)),
    });
    expect((await holdingOf(store, "j1"))?.alive?.process.pid).toBe(process.pid);
  }, 60_000);

  test("is free at once when its holder was killed on this host, with a greater token", async () => {
    const { process, said } = await child("claim", "j1");
    const closed = new Promise((resolve) => process.once("close", resolve));
    process.kill("SIGKILL");
    await closed;
    const claim = await take();
    expect(claim.claim.token).toBeGreaterThan(Number(said.split(" ")[1]));
    await claim.release();
  }, 60_000);

  test("of a process elsewhere is free only when its lease has run out", async () => {
    const runner = { ...thisRunner(), host: "elsewhere" };
    const foreign = { ...runner, process: { ...runner.process, pidNamespace: "another", pid: 999_999_999 } };
    const lease = await store.grant(1000);
    const started = performance.now();
    await store.txn(
      [{ key: runnerKey("j1"), rev: 0 }],
      [
        {
          put: runnerKey("j1"),
          value: Buffer.from(JSON.stringify({ runner: foreign, stamp: "s" })),
          lease: lease.id,
        },
      ],
    );
    await expect(take()).rejects.toThrow("held by process 999999999 on elsewhere");
    let claim: JobClaim | undefined;
    while (claim === undefined) {
      claim = await take().catch(() => undefined);
      await delay(50);
    }
    expect(performance.now() - started).toBeGreaterThan(900);
    await claim.release();
  });

  test("stays with a runner whose lease ran out while nobody else took the job, under the same token", async () => {
    const claim = await take("j1", 1000);
    const before = claim.claim;
    const lease = (await store.get(runnerKey("j1")))?.lease;
    await store.revoke(lease ?? 0);
    await expect.poll(async () => store.get(runnerKey("j1")), { timeout: 10_000 }).toBeDefined();
    expect(claim.claim).toEqual(before);
    expect(claim.lost.aborted).toBe(false);
    await claim.append("still here");
    await claim.release();
  });

  test("is lost for a runner whose lease ran out when another took the job", async () => {
    const claim = await take("j1", 1000);
    const lease = (await store.get(runnerKey("j1")))?.lease;
    await store.revoke(lease ?? 0);
    const next = await take();
    await expect.poll(() => claim.lost.aborted, { timeout: 10_000 }).toBe(true);
    expect(claim.lost.reason).toMatchObject({ code: "E_JOB_HELD" });
    await expect(claim.append("late")).rejects.toMatchObject({ code: "E_JOB_HELD" });
    await claim.release();
    await next.append("mine");
    await next.release();
  });

  test("taken anew by its own runner fences off what it sent before", async () => {
    const claim = await take();
    const { guard } = claim;
    const next = await claim.retake();
    expect(next.token).toBeGreaterThan(guard.rev);
    const late = await store.txn([guard, { key: "x", rev: 0 }], [{ put: "x", value: Buffer.from("v") }]);
    expect(late.ok).toBe(false);
    await claim.append("under the new token");
    expect((await readJournal(store, "j1"))[0]?.token).toBe(next.token);
    await claim.release();
  });

  test("that was released names its last holder and leaves no runner", async () => {
    const claim = await take();
    await claim.release();
    await claim.release();
    const holding = await holdingOf(store, "j1");
    expect(holding?.alive).toBeUndefined();
    expect(holding?.claim.releasedAt).not.toBeNull();
    expect(holding?.claim.runner.process.pid).toBe(process.pid);
    expect((await store.get(claimKey("j1")))?.rev).toBeGreaterThan(claim.claim.token);
  });

  test("of a job that does not exist is refused, naming those that do", async () => {
    await expect(take("j2")).rejects.toMatchObject({ code: "E_USAGE", next: expect.stringContaining("j1") });
  });
});

test("the journal goes on in order over several runners", async () => {
  await createJob(store, newJob());
  for (const kind of ["a", "b", "c"]) {
    const claim = await take();
    await claim.append(kind, { about: kind });
    await claim.append(`${kind} did`);
    await claim.release();
  }
  const journal = await readJournal(store, "j1");
  expect(journal.map((entry) => entry.seq)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(journal[2]).toMatchObject({ kind: "b", data: { about: "b" } });
});

describe("slice locks", () => {
  const wanted = (from: Bound, to: Bound, target: string) => ({
    keyType: "integer" as const,
    slice: [{ from, to }],
    from: ["s0"],
    to: [target],
  });
  const low = wanted(MIN, boundAt("5000"), "s1");
  const high = wanted(boundAt("5000"), MAX, "s2");
  const middle = wanted(boundAt("4999"), boundAt("5001"), "s3");

  test("keep two jobs off the same target, whose mirror knows one owner only, and off a chain of moves", async () => {
    await createJob(store, newJob());
    await createJob(store, newJob("j2"));
    const [one, two] = [await take("j1"), await take("j2")];
    await lockSlice(store, one.claim, "shop", low);
    for (const [clash, why] of [
      [{ ...high, to: ["s1"] }, /j1 moves a slice to s1/],
      [{ ...high, from: ["s1"] }, /j1 moves a slice to s1/],
      [{ ...high, from: ["s4"], to: ["s0"] }, /j1 moves a slice from s0/],
    ] as const) {
      await expect(lockSlice(store, two.claim, "shop", clash)).rejects.toThrow(why);
    }
    await lockSlice(store, two.claim, "shop", high);
    await one.release();
    await two.release();
  });

  test("keep two jobs off the same keys, and let others pass", async () => {
    await createJob(store, newJob());
    await createJob(store, newJob("j2"));
    const [one, two] = [await take("j1"), await take("j2")];
    await lockSlice(store, one.claim, "shop", low);
    await lockSlice(store, one.claim, "shop", low);
    await lockSlice(store, two.claim, "shop", high);
    await expect(lockSlice(store, two.claim, "shop", middle)).rejects.toMatchObject({
      code: "E_SLICE_HELD",
      message: "job j1 moves [MIN, 5000) in shop",
    });
    await lockSlice(store, two.claim, "other", low);
    await unlockSlices(store, one.claim, "shop");
    await unlockSlices(store, one.claim, "shop");
    await lockSlice(store, two.claim, "shop", middle);
    expect((await readSliceLocks(store, "shop")).map((lock) => lock.job)).toEqual(["j2"]);
    await one.release();
    await two.release();
  });

  test("go to one of two jobs that want overlapping slices at once, with lost answers", async () => {
    await createJob(store, newJob());
    await createJob(store, newJob("j2"));
    const [one, two] = [await take("j1"), await take("j2")];
    const results = await Promise.allSettled([
      lockSlice(withFaults(store, ["drop-after"]), one.claim, "shop", low),
      lockSlice(withFaults(store, ["drop-after"]), two.claim, "shop", middle),
    ]);
    expect(results.map((result) => result.status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(await readSliceLocks(store, "shop")).toHaveLength(1);
    await one.release();
    await two.release();
  });

  test("need the newest token", async () => {
    await createJob(store, newJob());
    const claim = await take();
    const old = claim.claim;
    await claim.retake();
    await expect(lockSlice(store, old, "shop", low)).rejects.toMatchObject({ code: "E_JOB_HELD" });
    await claim.release();
  });
});

describe("contents by hash", () => {
  test("come back byte for byte, whatever their size", async () => {
    for (const size of [0, 1, 128 * 1024, 128 * 1024 + 1, 700_000]) {
      const bytes = Buffer.from(Array.from({ length: size }, (_, n) => (n * 31) % 251));
      const hash = await putBlob(store, bytes);
      expect(hash).toMatch(/^[0-9a-f]{64}$/);
      expect(Buffer.compare((await getBlob(store, hash)) ?? Buffer.from("missing"), bytes)).toBe(0);
    }
  });

  test("are written again without harm, completed when half of them is there, and never read by half", async () => {
    const bytes = Buffer.alloc(400_000, "x");
    const hash = await putBlob(store, bytes);
    const rev = await store.revision();
    expect(await putBlob(store, bytes)).toBe(hash);
    expect(await store.revision()).toBe(rev);
    const { entries } = await store.list(`blob/${hash}/`);
    const last = entries.at(-1);
    await store.txn([{ key: last?.key ?? "", rev: last?.rev ?? 0 }], [{ del: last?.key ?? "" }]);
    await expect(getBlob(store, hash)).rejects.toMatchObject({ code: "E_CONTROL_STORE" });
    await putBlob(store, bytes);
    expect((await getBlob(store, hash))?.byteLength).toBe(400_000);
    expect(await getBlob(store, "0".repeat(64))).toBeUndefined();
  });
});
