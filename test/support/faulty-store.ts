import {
  OutcomeUnknown,
  type ControlStore,
  type Guard,
  type Op,
  type TxnOptions,
  type TxnResult,
} from "../../src/control/store.ts";

/** What happens to the next transactions, one after the other; `ok` when the list is empty. */
export type Fault =
  | "ok"
  /** Applied, and the answer is lost. */
  | "drop-after"
  /** Never arrives. */
  | "drop-before"
  /** Still travelling: applied when `deliver` is called, after its sender has given up waiting for it. */
  | "delay";

/** A real store behind a connection that loses and delays. */
export interface FaultyStore extends ControlStore {
  readonly sent: number;
  /** Lets the delayed requests arrive, in order. */
  deliver(): Promise<readonly TxnResult[]>;
}

export function withFaults(store: ControlStore, faults: Fault[]): FaultyStore {
  const delayed: (() => Promise<TxnResult>)[] = [];
  let sent = 0;
  const txn = async (
    guards: readonly Guard[],
    ops: readonly Op[],
    options?: TxnOptions,
  ): Promise<TxnResult> => {
    sent++;
    const fault = faults.shift() ?? "ok";
    if (fault === "ok") return store.txn(guards, ops, options);
    if (fault === "drop-after") await store.txn(guards, ops, options);
    if (fault === "delay") delayed.push(async () => store.txn(guards, ops));
    throw new OutcomeUnknown("the answer was lost", undefined);
  };
  const faulty = {
    txn,
    get sent() {
      return sent;
    },
    async deliver() {
      const results: TxnResult[] = [];
      for (const send of delayed.splice(0)) results.push(await send());
      return results;
    },
  };
  return new Proxy(store, {
    get(target, name) {
      const source = name in faulty ? faulty : target;
      const value: unknown = Reflect.get(source, name, source);
      return typeof value === "function" ? value.bind(source) : value;
    },
  }) as FaultyStore;
}
