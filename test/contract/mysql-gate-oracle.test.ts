import type { RowDataPacket } from "mysql2/promise";
import { expect, test } from "vitest";
import type { GateSpec, HeldGate } from "../../src/engines/engine.ts";
import { boundAt } from "../../src/model/key.ts";
import { openApp, takeJob, useGateLab, eventually } from "../support/gate-lab.ts";
import { chance, History, Writer, type State } from "../support/gate-oracle.ts";
import { close, gateSpec } from "../support/gate-spec.ts";
import { openRelay } from "../support/relay.ts";
import { describeServers } from "../support/servers.ts";

/**
 * Writers that know what was acknowledged, while the gate is closed again and again: committed and opened, rolled
 * back, or cut off. Whenever it is held, a plain read must show every acknowledged write of the slice (nothing lost),
 * and the slice must stand still from then until it is opened (nothing leaked). facts/gate 1.1 tells of the long runs.
 */
const writerCount = 10;
const keysEach = 12;
const closings = 40;

const spec: GateSpec = { ...gateSpec, slice: [{ from: boundAt("100"), to: boundAt("200") }] };
const inSlice = (state: State): boolean => state !== null && state.userId >= 100 && state.userId < 200;

describeServers("acknowledged writes and the range gate", (flavor) => {
  const lab = useGateLab(flavor);

  test("no write is lost and none leaks, however the closing ends", async () => {
    const seed = Number(process.env["SHARDLIFT_SEED"] ?? Date.now() % 1_000_000);
    const random = chance(seed);
    await lab.root.query("DELETE FROM orders");
    await lab.root.query("INSERT INTO elsewhere VALUES (0,0),(1,0),(2,0),(3,0),(4,0),(5,0),(6,0),(7,0)");
    await lab.gates.arm(spec);
    const history = new History();
    const over = new AbortController();
    const clients = await Promise.all(Array.from({ length: writerCount }, () => openApp(lab.server())));
    const writers = clients.map(
      (connection, n) =>
        new Writer({
          connection,
          keys: Array.from({ length: keysEach }, (_, k) => n + k * writerCount),
          history,
          random: chance(seed + n + 1),
          inSlice,
        }),
    );
    const running = Promise.all(writers.map((writer) => writer.run(over.signal)));
    const faults: string[] = [];
    const ends = { commit: 0, rollback: 0, cut: 0 };
    const closingAgain = async (): Promise<void> => {
      for (let n = 0; n < closings; n += 1) {
        await pause(20 + random(80));
        const dice = random(10);
        const how = dice < 6 ? "commit" : dice < 8 ? "rollback" : "cut";
        ends[how] += 1;
        const note = (what: string): number => faults.push(`closing ${n} (${how}): ${what}`);
        await closing(how, history, random, note);
      }
      over.abort();
    };
    // A writer that fails leaves its transaction open: its error is the one to report, not that of the closer.
    await Promise.all([running, closingAgain()]);
    for (const client of clients) client.destroy();

    expect({ seed, faults }).toEqual({ seed, faults: [] });
    // The run has seen what it is about.
    expect(Math.min(ends.commit, ends.rollback, ends.cut)).toBeGreaterThan(0);
    expect(history.ackedInSlice).toBeGreaterThan(200);
    expect(writers.reduce((sum, writer) => sum + writer.refusals, 0)).toBeGreaterThan(20);
  });

  async function closing(
    how: "commit" | "rollback" | "cut",
    history: History,
    random: (below: number) => number,
    note: (what: string) => number,
  ): Promise<void> {
    await using relay = await openRelay(lab.server().port);
    await using runner = await takeJob(lab.server(), { port: relay.port });
    await using held: HeldGate = await close(runner.gates, spec, 60_000);
    const problem = await held.whyNotTight();
    if (problem !== undefined) note(problem);
    const image = await readSlice();
    for (const key of history.keys()) {
      const shown = image.rows.get(key) ?? null;
      const allowed = history
        .allowed(key, image.from, image.to)
        .map((state) => (inSlice(state) ? state : null));
      if (!allowed.some((state) => same(state, shown)))
        note(`key ${key} shows ${JSON.stringify(shown)}, acknowledged is ${JSON.stringify(allowed)}`);
    }
    await pause(random(15));
    if (!same((await readSlice()).text, image.text)) note("the slice changed while the gate was held");
    switch (how) {
      case "commit":
        await held.commit();
        await pause(5 + random(40));
        if (!same((await readSlice()).text, image.text)) note("the slice changed while the gate was closed");
        await lab.gates.open("split-1");
        break;
      case "rollback":
        await held.rollback();
        break;
      case "cut": {
        const before = history.ackedInSlice;
        await relay[Symbol.asyncDispose]();
        await eventually("writers of the slice go on", async () => history.ackedInSlice > before);
        if ((await lab.gates.state("split-1"))?.state !== "open") note("the gate did not open by itself");
        break;
      }
    }
  }

  async function readSlice(): Promise<{ rows: Map<number, State>; text: string; from: number; to: number }> {
    const from = performance.now();
    const [found] = await lab.root.query<RowDataPacket[]>(
      "SELECT id, user_id, v FROM orders WHERE user_id >= 100 AND user_id < 200 ORDER BY id",
    );
    const to = performance.now();
    const rows = new Map(
      found.map((row) => [Number(row["id"]), { userId: Number(row["user_id"]), v: Number(row["v"]) }]),
    );
    return { rows, text: JSON.stringify(found), from, to };
  }
});

function same(a: State | string, b: State | string): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
