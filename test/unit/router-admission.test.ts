import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { boundAt, MAX, MIN } from "../../src/model/key.ts";
import type { RoutingMap } from "../../src/model/routing-map.ts";
import { Admission, type Permit } from "../../src/router/admission.ts";
import { type Need, RouteView } from "../../src/router/view.ts";
import type { LiveIntent } from "../../src/routing/intent.ts";

const map = (epoch: number, upper: string): RoutingMap => ({
  epoch,
  keyspaces: {
    shop: {
      function: "range",
      keyType: "integer",
      tables: {},
      ranges: [
        { from: MIN, to: boundAt("50"), shard: "s0" },
        { from: boundAt("50"), to: MAX, shard: upper },
      ],
    },
  },
});

const intent = (id: string, letGoAt: number): LiveIntent => ({
  id,
  job: "j",
  phase: "hold",
  keyspace: "shop",
  slice: [{ from: boundAt("50"), to: MAX }],
  fromShard: "s0",
  toShard: "s1",
  afterEpoch: 1,
  deadline: 0,
  stamp: "x",
  letGoAt,
});

const need = (key: number): Need => ({ keyspace: "shop", keys: [String(key)] });
const forever = { until: Number.POSITIVE_INFINITY, signal: new AbortController().signal };

function setUp(now: { ms: number }): { view: RouteView; admission: Admission } {
  const view = new RouteView(map(1, "s0"), Number.POSITIVE_INFINITY);
  return { view, admission: new Admission(view, { maxWaiting: 100, clock: () => now.ms }) };
}

type Step =
  | { kind: "begin"; key: number }
  | { kind: "end"; which: number }
  | { kind: "announce"; forMs: number }
  | { kind: "withdraw" | "flip" }
  | { kind: "pass"; ms: number };

const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("begin" as const), key: fc.nat(99) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("end" as const), which: fc.nat(20) }) },
    fc.record({ kind: fc.constant("announce" as const), forMs: fc.integer({ min: 1, max: 30 }) }),
    fc.record({ kind: fc.constantFrom("withdraw" as const, "flip" as const) }),
    fc.record({ kind: fc.constant("pass" as const), ms: fc.nat(20) }),
  ),
  { maxLength: 60 },
);

describe("who may begin", () => {
  test("property: after an intent was drained no work in its slice is running until the intent lets go", () => {
    fc.assert(
      fc.property(steps, (script: readonly Step[]) => {
        const now = { ms: 0 };
        const { view, admission } = setUp(now);
        const running: { key: number; permit: Permit }[] = [];
        let standing: LiveIntent | undefined;
        let drained = false;
        let epoch = 1;
        for (const [n, step] of script.entries()) {
          if (step.kind === "pass") now.ms += step.ms;
          if (step.kind === "announce" && epoch === 1) standing = intent(String(n), now.ms + step.forMs);
          if (step.kind === "withdraw") standing = undefined;
          if (step.kind === "flip") epoch = 2;
          if (["announce", "flip", "withdraw"].includes(step.kind)) {
            drained = false;
            const owner = epoch === 1 ? "s0" : "s1";
            view.learn(map(epoch, owner), standing === undefined ? [] : [standing], Number.POSITIVE_INFINITY);
          }
          if (step.kind === "begin") {
            const owners = view.owners(need(step.key));
            const permit = admission.begin(need(step.key), owners);
            const isHeld =
              standing !== undefined && epoch === 1 && step.key >= 50 && now.ms < standing.letGoAt;
            expect(permit === undefined).toBe(isHeld);
            if (permit !== undefined) running.push({ key: step.key, permit });
          }
          if (step.kind === "end")
            running.splice(step.which % Math.max(1, running.length), 1)[0]?.permit[Symbol.dispose]();
          if (standing === undefined) continue;
          const letGo = now.ms >= standing.letGoAt || epoch === 2;
          const inSlice = running.filter(({ key }) => key >= 50).length;
          expect(admission.isDrained(standing)).toBe(inSlice === 0);
          if (drained && !letGo) expect(inSlice).toBe(0);
          drained ||= admission.isDrained(standing);
        }
        expect(admission.running).toBe(running.length);
      }),
      { numRuns: 500 },
    );
  });

  test("work that was admitted for other owners than today's does not begin", () => {
    const { view, admission } = setUp({ ms: 0 });
    const owners = view.owners(need(60));
    view.learn(map(2, "s1"), [], Number.POSITIVE_INFINITY);
    expect(admission.begin(need(60), owners)).toBeUndefined();
    expect(admission.begin(need(60), ["s1"])?.map.epoch).toBe(2);
  });

  test("waiting ends with the flip, the withdrawal, and the limit", async () => {
    const now = { ms: 0 };
    const { view, admission } = setUp(now);
    view.learn(map(1, "s0"), [intent("a", 1e9)], Number.POSITIVE_INFINITY);
    const first = admission.wait(need(60), forever);
    view.learn(map(2, "s1"), [intent("a", 1e9)], Number.POSITIVE_INFINITY);
    await first;
    const other = setUp(now);
    other.view.learn(map(1, "s0"), [intent("b", 1e9)], Number.POSITIVE_INFINITY);
    const second = other.admission.wait(need(60), forever);
    other.view.learn(map(1, "s0"), [], Number.POSITIVE_INFINITY);
    await second;
    other.view.learn(map(1, "s0"), [intent("c", 1e9)], Number.POSITIVE_INFINITY);
    await expect(other.admission.wait(need(60), { ...forever, until: 0 })).rejects.toMatchObject({
      code: "E_HOLD_TIMEOUT",
      message: expect.stringContaining("job j"),
    });
    expect(other.admission.waiting).toBe(0);
  });

  test("an end is told, so that an intent can be acknowledged at once, and told only once", () => {
    const { admission } = setUp({ ms: 0 });
    let ends = 0;
    admission.onEnd = () => {
      ends += 1;
    };
    const permit = admission.begin(need(60), ["s0"]);
    permit?.[Symbol.dispose]();
    permit?.[Symbol.dispose]();
    expect(ends).toBe(1);
    expect(admission.running).toBe(0);
  });
});
