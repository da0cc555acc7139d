import { afterEach, beforeEach, expect, test } from "vitest";
import { openDeps } from "../../src/cli/deps.ts";
import { loadConfig } from "../../src/config/load.ts";
import { ShardliftError } from "../../src/errors/error.ts";
import { runJob, type JobEnd } from "../../src/job/run-job.ts";
import { createPlannedJob, newJobId } from "../../src/job/start-job.ts";
import { Secrets } from "../../src/lib/redact.ts";
import { buildSplitPlan } from "../../src/plan/build-split-plan.ts";
import type { FlipOutcome, FlipRequest } from "../../src/routing/flip.ts";
import { RoutingStore } from "../../src/routing/routing-store.ts";
import { readJob } from "../../src/control/job-records.ts";
import { describeServers } from "../support/servers.ts";
import { openShopLab, type ShopLab } from "../support/shop-lab.ts";

/** What the control store's answer to the flip looks like when it goes wrong. */
type Fault = (flip: () => Promise<FlipOutcome>) => Promise<FlipOutcome>;

class FaultyRouting extends RoutingStore {
  readonly #fault: Fault;

  constructor(store: ConstructorParameters<typeof RoutingStore>[0], fault: Fault) {
    super(store);
    this.#fault = fault;
  }

  override async flip(request: FlipRequest): Promise<FlipOutcome> {
    return await this.#fault(() => super.flip(request));
  }
}

const cause = new ShardliftError("E_TIMEOUT", "the store did not answer");

describeServers("a flip whose answer is lost", (flavor) => {
  let lab: ShopLab;
  beforeEach(async () => {
    lab = await openShopLab(flavor, { rows: 300 });
  });
  afterEach(() => lab[Symbol.asyncDispose]());

  async function run(
    fault: Fault,
    afterwards: () => Promise<void> = () => Promise.resolve(),
  ): Promise<{ end: JobEnd | ShardliftError; state: string; error: unknown }> {
    const { config } = await loadConfig(lab.config, {}, { cutover: "auto" });
    const reporter = { event: () => undefined, close: () => undefined };
    await using deps = await openDeps({ config, secrets: new Secrets(), reporter });
    const map = await deps.routing.currentMap();
    if (map === undefined) throw new Error("no map");
    const plan = await buildSplitPlan(deps, map, {
      shard: "s0",
      into: ["s0", "s1"],
      at: ["10"],
      keyspace: undefined,
    });
    const job = newJobId(plan);
    await createPlannedJob(deps.store, plan, job);
    const options = { until: "switched", cutover: "auto", cutoverDeadlineMs: 30_000 } as const;
    const faulty = { ...deps, routing: new FaultyRouting(deps.store, fault) };
    const end = await runJob(faulty, job, options, new AbortController().signal).catch((error: unknown) => {
      if (error instanceof ShardliftError) return error;
      throw error;
    });
    await afterwards();
    const record = (await readJob(deps.store, job))?.record;
    return { end, state: record?.state ?? "", error: record?.["error"] };
  }

  async function writes(shard: "s0" | "s1"): Promise<"taken" | "refused"> {
    await using app = await lab.connect(shard, "app");
    return await app.query("UPDATE orders SET note = 'x' WHERE user_id >= 10 LIMIT 1").then(
      () => "taken",
      () => "refused",
    );
  }

  test("and that did not happen opens the gate again under a new token: the source serves, nothing is lost", async () => {
    const { end, state } = await run(() => Promise.resolve({ kind: "not-flipped", cause }));
    expect(end).toMatchObject({ code: "E_CUTOVER_NOT_DONE", exit: 7, retryable: true });
    expect(state).toBe("ready");
    expect([await writes("s0"), await writes("s1")]).toEqual(["taken", "refused"]);
    const resumed = await lab.cli("resume", "--cutover", "auto");
    expect(resumed, resumed.stderr).toMatchObject({ code: 0 });
    expect([await writes("s0"), await writes("s1")]).toEqual(["refused", "taken"]);
  });

  test("and that did happen is read back: the job goes forward, the target opens", async () => {
    const { end, state } = await run(async (flip) => {
      await flip();
      return { kind: "unknown", cause };
    });
    expect(end).toMatchObject({ state: "switched" });
    expect(state).toBe("switched");
    expect([await writes("s0"), await writes("s1")]).toEqual(["refused", "taken"]);
  });

  test("and a swap that would land late is refused by the new token", async () => {
    let late: (() => Promise<FlipOutcome>) | undefined;
    const { state } = await run(
      (flip) => {
        late = flip;
        return Promise.resolve({ kind: "unknown", cause });
      },
      async () => {
        // The very request of the run, under the token that it had then.
        expect(await late?.()).toMatchObject({ kind: "not-flipped", cause: { code: "E_JOB_HELD" } });
      },
    );
    expect(state).toBe("ready");
    expect([await writes("s0"), await writes("s1")]).toEqual(["taken", "refused"]);
  });
});
