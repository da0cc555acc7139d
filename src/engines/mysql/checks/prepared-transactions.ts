import { sleep } from "../../../lib/wait.ts";
import { rule } from "./rule.ts";

/** How long applications get to decide what they have prepared: a look each, so many ms apart. */
const looks = 4;
const pauseMs = 300;

/**
 * Rows prepared before the job's start never show their keys, and on MariaDB a prepared transaction slips through a
 * closing gate (facts/gate 1.2). What comes and goes is waited for by the job; what stays is a blocker.
 */
export const preparedTransactions = rule("prepared-transactions", ["source"], async (scope) => {
  const { signal } = scope.session.connector;
  let names = await scope.session.log.preparedTransactions();
  for (let look = 1; look < looks && names.length > 0; look += 1) {
    await sleep(pauseMs, signal);
    const now = new Set(await scope.session.log.preparedTransactions());
    names = names.filter((name) => now.has(name));
  }
  for (const name of names) {
    scope.blocker(
      `XA transaction ${name} is prepared and nobody decides it`,
      "XA COMMIT or XA ROLLBACK it (XA RECOVER lists it)",
    );
  }
});
