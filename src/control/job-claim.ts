import { randomUUID } from "node:crypto";
import type { Claim } from "../engines/engine.ts";
import { invariant, ShardliftError } from "../errors/error.ts";
import { Mutex } from "../lib/wait.ts";
import { hostIdentity } from "./host-identity.ts";
import {
  decodeJob,
  jobRecordSchema,
  presenceSchema,
  requireJob,
  type ClaimRecord,
  type JobRecord,
} from "./job-records.ts";
import { appendJournal, readJournal, type JournalEntry } from "./journal.ts";
import { decodeJson, encodeJson } from "./json.ts";
import { claimKey, jobKey, runnerKey } from "./keys.ts";
import { KeptLease } from "./kept-lease.ts";
import { isRunnerDead, runnerName, type Runner } from "./runner.ts";
import { hasStamp, settle, type StampedWrite } from "./settle.ts";
import type { ControlStore, Entry, Guard, Rev } from "./store.ts";

export interface ClaimOptions {
  readonly runner: Runner;
  /** How long a runner that says nothing counts as alive. */
  readonly ttlMs?: number;
}

const defaultTtlMs = 10_000;
const writeMs = 5000;
/** Each lost race means that another runner was quicker; three in a row mean that somebody holds it. */
const races = 3;

/**
 * The right to work on a job. Two keys: the claim, which stays and whose revision is the fencing token, and the
 * runner's presence, bound to its lease. The lease only decides who may *try* to take over; the token decides whose
 * writes count (facts: control.md 6). So a runner that was stopped for longer than its lease goes on under its old
 * token as long as nobody has taken the job meanwhile, and every write of one that was replaced is refused.
 *
 * Invariant: every write of a job is guarded by the claim's revision.
 */
export class JobClaim implements AsyncDisposable {
  readonly job: string;
  readonly #store: ControlStore;
  readonly #runner: Runner;
  readonly #ttlMs: number;
  readonly #lost = new AbortController();
  /** One write at a time: two of this runner's own must not look like somebody else's to each other. */
  readonly #turns = new Mutex();
  #token: Rev;
  #lease: KeptLease;
  #nextSeq: number;
  #returning: Promise<void> | undefined;
  #released = false;

  /** Throws E_JOB_HELD naming the holder while its lease is alive, unless its process is gone from this host. */
  static async take(store: ControlStore, job: string, options: ClaimOptions): Promise<JobClaim> {
    await requireJob(store, job);
    const ttlMs = options.ttlMs ?? defaultTtlMs;
    const lease = await KeptLease.grant(store, ttlMs);
    try {
      const token = await take(store, job, options.runner, lease);
      const last = (await readJournal(store, job)).at(-1);
      return new JobClaim(store, {
        job,
        runner: options.runner,
        ttlMs,
        token,
        lease,
        nextSeq: (last?.seq ?? 0) + 1,
      });
    } catch (error) {
      await lease.close();
      throw error;
    }
  }

  private constructor(
    store: ControlStore,
    parts: {
      readonly job: string;
      readonly runner: Runner;
      readonly ttlMs: number;
      readonly token: Rev;
      readonly lease: KeptLease;
      readonly nextSeq: number;
    },
  ) {
    this.#store = store;
    this.job = parts.job;
    this.#runner = parts.runner;
    this.#ttlMs = parts.ttlMs;
    this.#token = parts.token;
    this.#lease = parts.lease;
    this.#nextSeq = parts.nextSeq;
    this.#comeBackWhenLost();
  }

  /** What the servers are told: whose store, which job, which token. */
  get claim(): Claim {
    return { storeId: this.#store.storeId, job: this.job, token: this.#token };
  }

  /** Aborted with E_JOB_HELD when another runner has taken the job. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** For transactions of others that must count only under this claim. */
  get guard(): Guard {
    return { key: claimKey(this.job), rev: this.#token };
  }

  /** Changes the job's record. Nobody else can change it meanwhile, so `change` is called once. */
  async update(change: (record: JobRecord) => JobRecord): Promise<JobRecord> {
    return this.#turns.run(async () => {
      const { record, rev } = await requireJob(this.#store, this.job);
      const next = jobRecordSchema.parse({ ...change(record), stamp: randomUUID() });
      invariant(next.id === this.job, "a job changes its id");
      const key = jobKey(this.job);
      await this.#write({
        guards: [this.guard, { key, rev }],
        ops: [{ put: key, value: encodeJson(next) }],
        witness: key,
        isMine: (entry) => entry !== undefined && decodeJob(entry).stamp === next.stamp,
      });
      return next;
    });
  }

  /** One entry of the journal; it is there when this returns. */
  async append(kind: string, data: unknown = null): Promise<JournalEntry> {
    return this.#turns.run(async () => {
      const entry = await appendJournal(this.#store, this.guard, {
        job: this.job,
        seq: this.#nextSeq,
        kind,
        data,
      });
      this.#nextSeq++;
      return entry;
    });
  }

  /**
   * A new token for the same runner: after a write of unknown outcome, and before anything is undone, so that the
   * first write can not land any more (pitfalls 18). The servers must be told the new token next.
   */
  async retake(): Promise<Claim> {
    return this.#turns.run(async () => {
      this.#token = await this.#writeClaim(null);
      return this.claim;
    });
  }

  /** Lets go; late writes of this runner are refused from here on. Idempotent. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#returning;
    await this.#turns.run(async () => {
      if (!this.#lost.signal.aborted) await this.#writeClaim(new Date().toISOString());
      await this.#lease.close();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  async #writeClaim(releasedAt: string | null): Promise<Rev> {
    const stamp = randomUUID();
    return this.#write({
      guards: [this.guard],
      ops: [
        {
          put: claimKey(this.job),
          value: encodeJson({ ...claimRecord(this.job, this.#runner, stamp), releasedAt }),
        },
      ],
      witness: claimKey(this.job),
      isMine: hasStamp(stamp),
    });
  }

  /** The first guard is the claim's. */
  async #write(write: StampedWrite): Promise<Rev> {
    const settled = await settle(this.#store, write, writeMs);
    if (settled.kind === "applied") return settled.rev;
    if (settled.kind === "unknown") throw settled.cause;
    if (settled.current[0]?.rev !== this.#token) throw this.#replaced();
    throw new ShardliftError("E_BUG", `${write.witness} was changed without the claim of job ${this.job}`);
  }

  #replaced(): ShardliftError {
    const error = new ShardliftError("E_JOB_HELD", `job ${this.job}: another runner has taken it over`);
    this.#lost.abort(error);
    return error;
  }

  #comeBackWhenLost(): void {
    this.#lease.lost.addEventListener("abort", () => {
      if (!this.#released) this.#returning = this.#turns.run(async () => this.#comeBack());
    });
  }

  /** The lease ran out (a long pause of the process). Nobody has taken the job: stand there again under the same token. */
  async #comeBack(): Promise<void> {
    try {
      await using stack = new AsyncDisposableStack();
      const lease = stack.use(await KeptLease.grant(this.#store, this.#ttlMs));
      const stamp = randomUUID();
      const key = runnerKey(this.job);
      // Not yet gone when it was only this process that could not reach the store; whose it is, the claim's guard says.
      const standing = await this.#store.get(key);
      await this.#write({
        guards: [this.guard, { key, rev: standing?.rev ?? 0 }],
        ops: [{ put: key, value: encodeJson({ runner: this.#runner, stamp }), lease: lease.id }],
        witness: key,
        isMine: hasStamp(stamp),
      });
      stack.move();
      this.#lease = lease;
      this.#comeBackWhenLost();
    } catch (cause) {
      // Without the store no other runner can be ruled out, so this one must not go on trying.
      this.#lost.abort(
        new ShardliftError("E_JOB_HELD", `job ${this.job}: the claim could not be kept`, { cause }),
      );
    }
  }
}

async function take(store: ControlStore, job: string, runner: Runner, lease: KeptLease): Promise<Rev> {
  for (let attempt = 1; ; attempt++) {
    const claim = await store.get(claimKey(job));
    const presence = await store.get(runnerKey(job));
    if (presence !== undefined) refuseIfAlive(job, presence);
    const stamp = randomUUID();
    const settled = await settle(
      store,
      {
        guards: [
          { key: claimKey(job), rev: claim?.rev ?? 0 },
          { key: runnerKey(job), rev: presence?.rev ?? 0 },
        ],
        ops: [
          { put: claimKey(job), value: encodeJson(claimRecord(job, runner, stamp)) },
          { put: runnerKey(job), value: encodeJson({ runner, stamp }), lease: lease.id },
        ],
        witness: claimKey(job),
        isMine: hasStamp(stamp),
      },
      writeMs,
    );
    if (settled.kind === "applied") return settled.rev;
    if (settled.kind === "unknown") throw settled.cause;
    if (attempt === races) {
      const [, other] = settled.current;
      if (other !== undefined) refuseIfAlive(job, other);
      throw new ShardliftError("E_JOB_HELD", `job ${job} is being taken by other runners`, {
        retryable: true,
      });
    }
  }
}

function refuseIfAlive(job: string, presence: Entry): void {
  const { runner } = decodeJson(presence.value, presenceSchema, presence.key);
  // Its lease still runs, but nobody is there to use it: a `resume` right after a crash need not wait.
  if (isRunnerDead(runner, hostIdentity())) return;
  throw new ShardliftError("E_JOB_HELD", `job ${job} is held by ${runnerName(runner)}`, {
    next: `look at \`shardlift status ${job}\`; end that process, or wait until its lease has run out`,
    retryable: true,
  });
}

function claimRecord(job: string, runner: Runner, stamp: string): ClaimRecord {
  return { job, runner, since: new Date().toISOString(), releasedAt: null, stamp };
}
