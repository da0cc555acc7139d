import { ShardliftError } from "../errors/error.ts";
import { abortable } from "../lib/wait.ts";
import { formatSlice } from "../model/slice.ts";
import { reservedStart } from "./counters.ts";
import type { Attempt, CutoverContext, CutoverOutline, GatePoint } from "./cutover-context.ts";

/**
 * The cutover, step by step (DESIGN section 4). One list serves the run and the dry run, so they can not drift.
 *
 * The order is the proof: commit closed before the flip (else a crash between reopens the gate under a moved slice);
 * drain and verify under X (else late writers are missed); the reverse position before the target opens; the tail
 * ended before the target opens (it would delete new rows of the target whose primary key the source uses elsewhere).
 */
export interface CutoverStep {
  readonly name: string;
  /** From here on the way back is a reopened gate under a new token, not a rollback. */
  readonly pastNoReturn: boolean;
  describe(outline: CutoverOutline): string[];
  run(context: CutoverContext, attempt: Attempt): Promise<void>;
}

/** One try for the exclusive lock; writers of the slice wait no longer than this for nothing (facts/gate, 3). */
const closeTryMs = 100;

const names = (points: readonly GatePoint[]): string => points.map((point) => point.shard).join(", ");

const hold: CutoverStep = {
  name: "hold and close",
  pastNoReturn: false,
  describe: ({ sources, limits }) =>
    sources.map(
      ({ shard, spec }) =>
        `routers hold new writes to ${formatSlice(spec.slice)} for at most ${limits.maxPauseMs} ms; exclusive lock on the gate row at ${shard}, tried for ${closeTryMs} ms`,
    ),
  async run({ ports, sources, limits }, attempt) {
    // Together: the gate is what makes it safe, the routers' hold only makes it seamless (facts/control, 5).
    const close = async (): Promise<void> => {
      for (const point of sources) {
        const result = await point.session.gates.tryClose(point.spec, closeTryMs);
        if ("blockers" in result) throw new GateBusy(point.shard, result.blockers);
        attempt.held.push({ point, gate: result });
      }
    };
    const announced = ports.announce("hold", limits.maxPauseMs + limits.flipDeadlineMs);
    const ends = await Promise.allSettled([close(), announced]);
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  },
};

const tight: CutoverStep = {
  name: "check the gate",
  pastNoReturn: false,
  describe: ({ sources }) => [`no prepared XA transaction and every trigger in place at ${names(sources)}`],
  async run(_context, { held }) {
    for (const { point, gate } of held) {
      const leak = await gate.whyNotTight();
      if (leak !== undefined) throw new GateBusy(point.shard, [leak]);
    }
  },
};

const drain: CutoverStep = {
  name: "drain",
  pastNoReturn: false,
  describe: ({ moves }) =>
    moves.map(
      ({ from, to }) =>
        `commit a marker at ${from}, read its log up to it, copy the last dirty keys to ${to}`,
    ),
  async run({ moves }, { signal }) {
    await Promise.all(
      moves.map(async ({ tail }) => tail.drain(await abortable(tail.raise(), signal), signal)),
    );
  },
};

const prove: CutoverStep = {
  name: "verify the last keys",
  pastNoReturn: false,
  describe: ({ moves }) =>
    moves.map(({ from, to }) => `compare the keys written since they were verified, ${from} and ${to}`),
  async run({ moves }, { signal }) {
    await Promise.all(moves.map(({ verifier }) => verifier.verifyLast(signal)));
  },
};

const counters: CutoverStep = {
  name: "check the counters",
  pastNoReturn: false,
  describe: ({ moves }) =>
    moves.map(({ from, to }) => `the AUTO_INCREMENT counters of ${to} lie above those of ${from}`),
  async run({ moves }) {
    for (const { work } of moves) {
      for (const { shape } of work.tables) {
        const [here, there] = await Promise.all([
          work.source.catalog.autoIncrement(shape),
          work.target.catalog.autoIncrement(shape),
        ]);
        if (here !== undefined && there !== undefined && there.next <= here.next) {
          throw new ShardliftError(
            "E_CUTOVER_NOT_DONE",
            `the counter of ${shape.name} at ${work.from} has used up its reserve (${here.next}, ${work.to} starts at ${there.next})`,
            { retryable: true },
          );
        }
      }
    }
  },
};

const reversePosition: CutoverStep = {
  name: "take the reverse position",
  pastNoReturn: false,
  describe: ({ targets }) => [`read the log position of ${names(targets)}: a rollback starts there`],
  async run({ targets, ports }, attempt) {
    for (const { shard, session } of targets) attempt.reverseFrom[shard] = await session.log.head();
    await ports.journal("reverse-position", "did", { reverseFrom: attempt.reverseFrom });
  },
};

const commit: CutoverStep = {
  name: "commit closed",
  pastNoReturn: true,
  describe: ({ sources }) => [
    `COMMIT the closed gate at ${names(sources)}: waiting writers are refused and retry`,
  ],
  async run(context, attempt) {
    await context.ports.journal("commit-closed", "about");
    for (const { gate } of attempt.held) await gate.commit();
    attempt.committedAt = performance.now();
  },
};

const endTail: CutoverStep = {
  name: "end the tail",
  pastNoReturn: true,
  describe: ({ moves }) =>
    moves.map(({ from, to }) => `stop following ${from}: nothing more is written at ${to}`),
  async run({ moves, ports }) {
    await Promise.all([
      ports.journal("flip", "about"),
      ...moves.map(({ tail }) => tail.stop({ checkpoint: false })),
    ]);
  },
};

const flip: CutoverStep = {
  name: "flip",
  pastNoReturn: true,
  describe: ({ plannedEpoch, limits }) => [
    `compare-and-swap of the routing map from epoch ${plannedEpoch} to ${plannedEpoch + 1}, guarded by the job's token, within ${limits.flipDeadlineMs} ms`,
  ],
  async run({ ports, limits }, attempt) {
    const outcome = await ports.flip(limits.flipDeadlineMs);
    if (outcome.kind === "flipped") {
      attempt.epoch = outcome.epoch;
      return;
    }
    throw outcome.kind === "unknown" ? new FlipUnknown(outcome.cause) : new NotFlipped(outcome.cause);
  },
};

const open: CutoverStep = {
  name: "open the target",
  pastNoReturn: true,
  describe: ({ targets }) => [`open the mirror gate at ${names(targets)}`],
  async run({ job, targets }, attempt) {
    for (const { session } of targets) await session.gates.open(job);
    attempt.openedAt = performance.now();
  },
};

/** Done once, before the first attempt; nothing waits for them. */
export async function prepareCutover(context: CutoverContext): Promise<void> {
  // The mirrors stand since the job was prepared; armed again they are only looked at.
  const { ports, sources, targets, moves, limits } = context;
  await ports.journal("arm", "about");
  for (const { session, spec } of targets) await session.gates.arm(spec, limits.deadlineMs);
  for (const { session, spec } of sources) await session.gates.arm(spec, limits.deadlineMs);
  await ports.journal("arm", "did");
  for (const [index, { work }] of moves.entries()) {
    for (const { shape } of work.tables) {
      const counter = await work.source.catalog.autoIncrement(shape);
      if (counter === undefined) continue;
      const place = { index, targets: moves.length };
      await work.target.catalog.raiseAutoIncrement(shape, reservedStart(shape.name, counter, place));
    }
  }
}

export function describePreparation({ claim, sources, targets, moves }: CutoverOutline): string[] {
  return [
    ...targets.flatMap(({ session, spec }) => session.gates.preview(spec, claim)),
    ...sources.flatMap(({ session, spec }) => session.gates.preview(spec, claim)),
    ...moves.map(({ from, to }) => `raise the AUTO_INCREMENT counters of ${to} above a reserve for ${from}`),
  ];
}

/** One attempt, in order. Everything before the first `pastNoReturn` is undone by rolling the gates back. */
export const attemptSteps: readonly CutoverStep[] = [
  hold,
  tight,
  drain,
  prove,
  counters,
  reversePosition,
  commit,
  endTail,
  flip,
  open,
];

/** The gate could not be taken in this try: normal under load, tried again. */
export class GateBusy extends ShardliftError {
  constructor(shard: string, blockers: readonly string[]) {
    super(
      "E_CUTOVER_NOT_DONE",
      `the gate at ${shard} could not be closed: ${blockers.length === 0 ? "a lock wait ran out" : blockers.join("; ")}`,
      { retryable: true },
    );
  }
}

/** The swap was refused for good: the old epoch stands, the gate is committed closed. */
class NotFlipped extends ShardliftError {
  constructor(cause: ShardliftError) {
    super("E_CUTOVER_NOT_DONE", `the map was not flipped: ${cause.message}`, { cause, retryable: true });
  }
}

class FlipUnknown extends ShardliftError {
  constructor(cause: ShardliftError) {
    super("E_OWNERSHIP_UNKNOWN", `the outcome of the flip is not known: ${cause.message}`, { cause });
  }
}
