/**
 * Every code that shardlift can end with: the exit code, what it means and what to do. `docs/errors.md` is made
 * from this table; a test fails when a code is unused or the page is stale.
 *
 * Exit codes (documented in docs/exit-codes.md): 1 bug · 2 usage or bad configuration · 3 preflight found blockers ·
 * 4 cannot connect or authenticate · 5 ownership unknown · 6 verification mismatch · 7 cutover not done, the source
 * still serves · 8 log position lost · 9 stale plan · 10 another runner holds the job · 11 wait timed out ·
 * 130/143 interrupted.
 */
export const codes = {
  E_BUG: {
    exit: 1,
    meaning: "shardlift broke one of its own invariants.",
    fix: "Keep the journal, run `shardlift status`, and report the message with its stack.",
  },
  E_USAGE: { exit: 2, meaning: "A flag or an argument is wrong.", fix: "Run the command with --help." },
  E_CONFIG: {
    exit: 2,
    meaning: "The configuration has problems; every one is listed with its place.",
    fix: "Mend the listed lines, then run `shardlift config validate`.",
  },
  E_PREFLIGHT: {
    exit: 3,
    meaning: "Preflight found blockers; nothing was changed.",
    fix: "Run the SQL that each finding prints, then try again.",
  },
  E_CONNECT: {
    exit: 4,
    meaning: "A server could not be reached, or it refused the account.",
    fix: "Check hosts, port, user and password file of the shard that the message names.",
  },
  E_OWNERSHIP_UNKNOWN: {
    exit: 5,
    meaning: "The flip was sent but its outcome could not be read back.",
    fix: "Do not write to the slice by hand; bring the control store back and run `shardlift resume`.",
  },
  E_MISMATCH: {
    exit: 6,
    meaning: "Source and target differ in the listed keys; the flip is refused.",
    fix: "Look at the listed keys; find out who wrote them outside the log (sql_log_bin=0), mend them, then resume.",
  },
  E_CUTOVER_NOT_DONE: {
    exit: 7,
    meaning: "The cutover gave up inside its budget; the gate is open and the source still serves.",
    fix: "End the transactions that the message names or raise --max-pause, then run `shardlift cutover` again.",
  },
  E_LOG_LOST: {
    exit: 8,
    meaning: "The log position that the job needs is no longer on the server.",
    fix: "Run `shardlift abort`, keep the log longer, and start again.",
  },
  E_STALE_PLAN: {
    exit: 9,
    meaning: "The schema, the servers or the routing map changed since the plan was made.",
    fix: "Make the plan again.",
  },
  E_JOB_HELD: {
    exit: 10,
    meaning: "Another runner holds the job, or this one lost its token.",
    fix: "Look at `shardlift status`; only one runner may work on a job.",
  },
  E_TIMEOUT: { exit: 11, meaning: "A wait ran out of its time limit.", fix: "Run `shardlift resume`." },
  E_INTERRUPTED: {
    exit: 130,
    meaning: "The run was interrupted; its checkpoint is saved.",
    fix: "Run `shardlift resume`.",
  },
} as const satisfies Record<string, { exit: number; meaning: string; fix: string }>;

export type ErrorCode = keyof typeof codes;
