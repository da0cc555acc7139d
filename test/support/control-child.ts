/**
 * A process of its own for the control-store tests: `write DIR NAME COUNT` writes and prints every acknowledged
 * revision at once; `claim FILE JOB` takes a job, prints its token and stays; `race FILE JOB` tries once.
 */
import { writeSync } from "node:fs";
import { JobClaim } from "../../src/control/job-claim.ts";
import { thisRunner } from "../../src/control/runner.ts";
import { openSqliteStore } from "../../src/control/sqlite-store.ts";
import { ShardliftError } from "../../src/errors/error.ts";

const [, , mode = "", file = "", name = "", count = "0"] = process.argv;

// Synchronous, so that what was acknowledged has left the process before it can be killed.
const say = (text: string): void => {
  writeSync(1, `${text}\n`);
};

const store = await openSqliteStore(file);
if (mode === "write") {
  for (let n = 1; n <= Number(count); n++) {
    const key = `data/${name}/${n}`;
    const result = await store.txn([{ key, rev: 0 }], [{ put: key, value: Buffer.from(`${name}-${n}`) }]);
    if (result.ok) say(`${key} ${result.rev}`);
  }
  await store.close();
} else {
  try {
    const claim = await JobClaim.take(store, name, { runner: thisRunner(), ttlMs: 60_000 });
    say(`taken ${claim.claim.token}`);
    if (mode === "race") await claim.append("here");
    // Stays until it is killed.
    setInterval(() => undefined, 1000);
  } catch (error) {
    say(error instanceof ShardliftError ? `refused ${error.code}` : String(error));
    process.exit(0);
  }
}
