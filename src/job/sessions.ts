import type { Claim, Session } from "../engines/engine.ts";
import type { Plan } from "../plan/plan.ts";
import type { ServerAccess } from "./job-context.ts";

export interface OpenSessions extends AsyncDisposable {
  readonly all: ReadonlyMap<string, Session>;
}

/** One session for each shard that the plan touches; all are closed together, and every error is told. */
export async function openSessions(
  deps: ServerAccess,
  plan: Pick<Plan, "moves">,
  claim: Claim | undefined,
): Promise<OpenSessions> {
  const stop = new AbortController();
  const stack = new AsyncDisposableStack();
  stack.defer(() => stop.abort(new Error("the sessions are closed")));
  const all = new Map<string, Session>();
  try {
    for (const shard of new Set(plan.moves.flatMap((move) => [move.from, move.to]))) {
      const options = { signal: stop.signal, ...(claim === undefined ? {} : { claim }) };
      all.set(shard, stack.use(await deps.engineOf(shard).open(deps.endpointOf(shard), options)));
    }
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
  return { all, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}
