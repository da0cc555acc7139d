import { invariant } from "../errors/error.ts";

/**
 * The words with which a gate refuses a write, and the way back from them. The gate's triggers say them as SQLSTATE
 * 45000, errno 1644; whoever gets one reloads the routing map until its epoch is above `afterEpoch` and runs the
 * statement at the owner. No server code here: the router reads this file without an engine.
 * Invariant: `parseRefusal(formatRefusal(r))` equals `r`, and the text has at most 128 characters, which is where the
 * servers cut MESSAGE_TEXT (manual, SIGNAL Statement).
 */
export interface Refusal {
  /**
   * `moved`: the slice has left this shard, or is about to. `not-open`: the slice is coming to this shard and has not
   * been opened yet. `not-owned`: this shard does not own the row before and after the change.
   */
  readonly kind: "moved" | "not-open" | "not-owned";
  readonly job: string;
  /** The map that is to be waited for has a greater epoch. 0 when the gate has lost its row: reload and try again. */
  readonly afterEpoch: number;
}

/** Everything but the epoch, which the trigger appends from the gate's row. */
export function refusalPrefix(kind: Refusal["kind"], job: string): string {
  invariant(/^[\w.-]{1,64}$/.test(job), `not a job's name: ${job}`);
  return `shardlift: ${words[kind]}, job ${job} after epoch `;
}

export function formatRefusal({ kind, job, afterEpoch }: Refusal): string {
  return `${refusalPrefix(kind, job)}${afterEpoch}`;
}

/** What a gate said, from the error's own message; undefined when it is not a gate's. */
export function parseRefusal(message: string): Refusal | undefined {
  const match = pattern.exec(message);
  const [, said, job, epoch] = match ?? [];
  const kind = kinds.find((candidate) => words[candidate] === said);
  if (kind === undefined || job === undefined || epoch === undefined) return undefined;
  return { kind, job, afterEpoch: Number(epoch) };
}

const words = {
  moved: "slice moved",
  "not-open": "slice not open",
  "not-owned": "not owned here",
} as const satisfies Record<Refusal["kind"], string>;

const kinds = ["moved", "not-open", "not-owned"] as const;

const pattern = new RegExp(
  `^shardlift: (${Object.values(words).join("|")}), job ([\\w.-]{1,64}) after epoch (\\d{1,16})$`,
);
