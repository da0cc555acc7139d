import { ShardliftError } from "../errors/error.ts";

export type InterruptSignal = "SIGINT" | "SIGTERM";
const exits: Readonly<Record<InterruptSignal, number>> = { SIGINT: 130, SIGTERM: 143 };

export interface Interrupt extends Disposable {
  /** Aborted by the first signal, with an E_INTERRUPTED as its reason. */
  readonly signal: AbortSignal;
  /** The first signal that came. */
  readonly received: InterruptSignal | undefined;
}

/**
 * Ctrl-C: the first one asks the work to stop cleanly (checkpoint, then exit 130 or 143); the second one exits at
 * once, which is safe too: a job survives the death of its runner at any point. Dispose to hand the signals back.
 */
export function listenForInterrupt(options: {
  /** Tells the operator, once. Must not throw. */
  readonly onFirst: (signal: InterruptSignal) => void;
  readonly source?: Pick<NodeJS.Process, "on" | "off" | "exit">;
}): Interrupt {
  const source = options.source ?? process;
  const controller = new AbortController();
  let received: InterruptSignal | undefined;
  const handler = (name: InterruptSignal) => (): void => {
    if (received !== undefined) {
      source.exit(exits[name]);
      return;
    }
    received = name;
    controller.abort(
      new ShardliftError("E_INTERRUPTED", `interrupted by ${name}; the work was stopped cleanly`),
    );
    options.onFirst(name);
  };
  const handlers = { SIGINT: handler("SIGINT"), SIGTERM: handler("SIGTERM") };
  source.on("SIGINT", handlers.SIGINT);
  source.on("SIGTERM", handlers.SIGTERM);
  return {
    signal: controller.signal,
    get received() {
      return received;
    },
    [Symbol.dispose]() {
      source.off("SIGINT", handlers.SIGINT);
      source.off("SIGTERM", handlers.SIGTERM);
    },
  };
}
