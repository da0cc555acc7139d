import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Where a run of the demo keeps its servers' data and its logs. Removed at the end, also when the process ends early
 * (a second Ctrl-C), unless it is kept for people to look at.
 */
export class DemoFolder implements AsyncDisposable {
  readonly path: string;
  #isKept = false;
  readonly #removeAtExit = (): void => {
    // Servers that were killed a moment ago may still be in it.
    rmSync(this.path, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  };

  private constructor(path: string) {
    this.path = path;
    this.removeLast();
  }

  static async make(): Promise<DemoFolder> {
    return new DemoFolder(await mkdtemp(join(tmpdir(), "shardlift-demo-")));
  }

  get isKept(): boolean {
    return this.#isKept;
  }

  /** Puts the removal behind everything else that happens when the process ends, such as the end of the servers. */
  removeLast(): void {
    process.off("exit", this.#removeAtExit);
    process.once("exit", this.#removeAtExit);
  }

  keep(): void {
    this.#isKept = true;
    process.off("exit", this.#removeAtExit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isKept) await rm(this.path, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    // Not before: a second Ctrl-C may come while it is being removed.
    process.off("exit", this.#removeAtExit);
  }
}
