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
  E_COUNTER_FULL: {
    exit: 3,
    meaning: "An AUTO_INCREMENT column has too few values left to reserve a part for each shard.",
    fix: "Widen the column (BIGINT) at the source, then plan again.",
  },
  E_GATE_LOST: {
    exit: 5,
    meaning:
      "The closing of the gate was sent but could not be read back: the slice may already refuse writes.",
    fix: "Run the query that the message names at the old shard; then run `shardlift resume`.",
  },
  E_GATE_NOT_ARMED: {
    exit: 7,
    meaning: "The gate's triggers could not be created (or removed) in time; the source serves as before.",
    fix: "End the transactions that the message names, then run `shardlift cutover` again.",
  },
  E_SERVER_CHANGED: {
    exit: 8,
    meaning: "A shard is served by another server than the one whose log the job has followed.",
    fix: "Run `shardlift abort` and start again, or bring the old server back and run `shardlift resume`.",
  },
  E_ABORT_REFUSED: {
    exit: 2,
    meaning: "The slice has changed hands (or is about to): the job can not be aborted any more.",
    fix: "Run `shardlift resume` to bring the job to its end.",
  },
  E_JOB_ENDED: {
    exit: 2,
    meaning: "The job has come to its end; nothing can be done with it any more.",
    fix: "Look at `shardlift status`; start a new job.",
  },
  E_ABORT_BEGUN: {
    exit: 2,
    meaning: "An abort of the job was begun and cut short; the job can only be aborted.",
    fix: "Run `shardlift abort` again.",
  },
  E_NO_JOB: {
    exit: 2,
    meaning: "No job, or more than one, is there to choose from.",
    fix: "Name the job, or start one with `shardlift split`.",
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
  E_SERVER_BINARY: {
    exit: 2,
    meaning: "A local server (demo, tests) needs a server program that is not on this machine.",
    fix: "Run bin/setup, or install the program that the message names, or set its SHARDLIFT_… variable to its path.",
  },
  E_SERVER_START: {
    exit: 4,
    meaning:
      "A local server (demo, tests) did not start, or did not stop; the message shows the end of its log.",
    fix: "Read the log that the message names; a full disk and a port in use are the usual causes.",
  },
  E_CONTROL_STORE: {
    exit: 4,
    meaning:
      "The control store could not be opened, read or written; nothing was written by the failed call.",
    fix: "Mend what the message names (path, rights, file system, another host, disk space), then try again.",
  },
  E_STORE_WENT_BACK: {
    exit: 5,
    meaning:
      "The control store has forgotten writes that it had acknowledged (restored backup, replaced file).",
    fix: "Stop every runner and router, bring the newest control store back, and compare its epoch with the gates.",
  },
  E_WRITE_UNKNOWN: {
    exit: 5,
    meaning: "A write to the control store was sent but not answered; it may have been applied.",
    fix: "Bring the control store back and run `shardlift resume`: it settles the write before it does anything else.",
  },
  E_LEASE_LOST: {
    exit: 10,
    meaning: "This process could not keep its lease in the control store alive in time and has stopped.",
    fix: "Look for long pauses of the process or the store, then run `shardlift resume`.",
  },
  E_SLICE_HELD: {
    exit: 10,
    meaning: "Another job holds a part of the slice; two jobs never move the same keys.",
    fix: "Finish or abort the job that the message names, then try again.",
  },
  E_MAP_DIFFERS: {
    exit: 2,
    meaning: "The configuration's first map is not the one that the control store was started with.",
    fix: "Put the keyspace back as it was; after the first map, ranges change only by split, move and merge.",
  },
  E_PUBLISH: {
    exit: 4,
    meaning: "A publisher could not bring its reader to the map's epoch; the flip itself stands.",
    fix: "Mend what the message names (path, rights, disk space), then run `shardlift route publish`.",
  },
  E_SERVER_REFUSED: {
    exit: 4,
    meaning: "A server answered a statement of the row path with an error.",
    fix: "Mend what the server's message says (rights, disk, limits), then run `shardlift resume`.",
  },
  E_TARGET_BUSY: {
    exit: 11,
    meaning: "Other transactions at the target kept a batch from being written (lock timeout or deadlock).",
    fix: "End the transactions that hold locks on the table at the target, then run `shardlift resume`.",
  },
  E_COMMIT_UNKNOWN: {
    exit: 4,
    meaning: "The answer to a commit at the target was lost; the saved progress tells whether it happened.",
    fix: "Run `shardlift resume`; it reads the progress first.",
  },
  E_ROWS_REFUSED: {
    exit: 6,
    meaning: "The target did not take rows exactly as they were read; the transaction was rolled back.",
    fix: "Compare the table's definition and the settings of both servers with the server's message, then resume.",
  },
  E_STRUCTURE_DIFFERS: {
    exit: 6,
    meaning: "A table at the target has not the structure of its source; no row was copied into it.",
    fix: "Run `shardlift abort`, make the table at the target equal to the source's by hand, then start again.",
  },
  E_KEY_COLLISION: {
    exit: 6,
    meaning:
      "A primary key of the moved slice is held at the target by a row that does not belong to the move.",
    fix: "Change or remove one of the two rows that the message names, then run `shardlift resume`.",
  },
  E_UNIQUE_COLLISION: {
    exit: 6,
    meaning: "A unique key of a moved row is held at the target by a row that does not belong to the move.",
    fix: "Change or remove one of the two rows that the message names, then run `shardlift resume`.",
  },
  E_DIGEST_FAILED: {
    exit: 6,
    meaning: "A server could not hash every row (a hash came out as NULL), so nothing is proven.",
    fix: "Raise max_allowed_packet at the server that the message names, then run `shardlift resume`.",
  },
  E_LOG_UNREADABLE: {
    exit: 8,
    meaning:
      "The log holds something that shardlift can not read with certainty; nothing after it was applied.",
    fix: "Look at the event that the message names; run `shardlift abort`, mend its cause and start again.",
  },
  E_LOG_FOREIGN: {
    exit: 8,
    meaning:
      "The server's history does not hold what this job has already read: another server, or a lost tail.",
    fix: "Point the shard at a server that has the named transactions, or run `shardlift abort` and start again.",
  },
  E_STATEMENT_LOGGED: {
    exit: 8,
    meaning: "A session logged a change as a statement, so the changed keys are not in the log.",
    fix: "Find the session that sets binlog_format away from ROW, run `shardlift abort` and start again.",
  },
  E_XA_UNSEEN: {
    exit: 8,
    meaning: "The log decides an XA transaction whose changes were logged before the job began to read.",
    fix: "Run `shardlift abort`, let open XA transactions end (XA RECOVER is empty), and start again.",
  },
  E_XA_TOO_LARGE: {
    exit: 8,
    meaning: "Undecided XA transactions hold more keys than shardlift keeps in memory.",
    fix: "Run `shardlift abort`, split the XA transactions that the message names, and start again.",
  },
  E_DDL: {
    exit: 9,
    meaning: "Somebody changed, emptied or dropped a table while it was being moved.",
    fix: "Run `shardlift abort`, wait until the change is done, make the plan again and start it.",
  },
  E_SCHEMA_CHANGED: {
    exit: 9,
    meaning: "A table's columns in the log differ from those that the job was started with.",
    fix: "Run `shardlift abort`, make the plan again and start it.",
  },
  E_HOLD_TIMEOUT: {
    exit: 11,
    meaning:
      "The router could not start a write within its time limit: held for a cutover, refused, or no connection.",
    fix: "Run the write again; look at the job with `shardlift status` or raise holdTimeoutMs or poolSize.",
  },
  E_HOLD_FULL: {
    exit: 11,
    meaning: "The router already holds as many waiting statements as it may; this one was not sent.",
    fix: "Slow the application down for a moment, or raise maxWaiting.",
  },
  E_MAP_LEASE: {
    exit: 11,
    meaning: "The router could not confirm its routing map within the lease, so it serves no reads from it.",
    fix: "Bring the control store back; the router goes on by itself as soon as it can read it.",
  },
  E_TWO_SHARDS: {
    exit: 2,
    meaning:
      "The keys of one transaction belong to two shards; the router does not run transactions over two shards.",
    fix: "Make one transaction per owner, or use moveRow for a row whose shard key changes.",
  },
  E_OUTCOME_UNKNOWN: {
    exit: 5,
    meaning: "The connection was lost after the statement or the commit was sent; it may have been applied.",
    fix: "Read back what the statement would have changed before running it again.",
  },
  E_ROW_MOVE: {
    exit: 7,
    meaning: "A row could not be moved to its new key; the message says where it is now.",
    fix: "Mend what the message names, then call moveRow again with the same token.",
  },
  E_DEMO_LOSS: {
    exit: 6,
    meaning:
      "The demo found an acknowledged write that is lost, repeated or changed, or a row that changed by itself.",
    fix: "Keep the folder that the message names and report it: this must never happen.",
  },
  E_DEMO_FAILED: {
    exit: 1,
    meaning: "The demo's split did not end as it must, or its application saw errors; no write was lost.",
    fix: "Look at the logs in the folder that the message names; a machine without free memory or disk is the usual cause.",
  },
  E_INTERRUPTED: {
    exit: 130,
    meaning: "The run was interrupted; its checkpoint is saved.",
    fix: "Run `shardlift resume`.",
  },
} as const satisfies Record<string, { exit: number; meaning: string; fix: string }>;

export type ErrorCode = keyof typeof codes;
