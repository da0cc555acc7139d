/**
 * A real MariaDB or MySQL server on 127.0.0.1 for the demo and the tests: own data directory, free port, row-format
 * log with GTIDs, durable commits.
 *
 * Invariants: a server is only ever ended by the process that we started; `stop()` returns when that process is gone
 * (SIGTERM, then SIGKILL after a bound). The data directory is the caller's to remove. When this process exits in an
 * orderly way its servers are killed with it; when it is killed hard they stay behind.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Connection, type RowDataPacket, createConnection } from "mysql2/promise";
import { ShardliftError } from "../errors/error.ts";
import { type ServerBinary, type ServerFlavor, findServerBinary } from "./server-binary.ts";
import { type Place, choosePlace, serverArgs } from "./server-place.ts";
import { newDatadir } from "./server-template.ts";

export interface LocalServerOptions {
  readonly flavor: ServerFlavor;
  /** Made when missing. A data directory that is in it already is used again. */
  readonly directory: string;
  /** Come last on the command line, so they override everything but the place and the port. */
  readonly extraArgs?: readonly string[];
  readonly bufferPoolMiB?: number;
  /** A copy that outruns the redo log is throttled by checkpoints: 512 for anything that is measured. */
  readonly redoLogMiB?: number;
  /** Gives up the start; a server that runs already is not touched by it. */
  readonly signal?: AbortSignal;
}

export interface LocalServer extends AsyncDisposable {
  readonly flavor: ServerFlavor;
  readonly version: string;
  readonly host: "127.0.0.1";
  readonly port: number;
  /** Of the running process, or of the last one. */
  readonly pid: number;
  readonly socket: string;
  readonly directory: string;
  readonly logFile: string;
  /** `root` has no password. */
  readonly rootConnection: { readonly host: string; readonly port: number; readonly user: "root" };
  readonly running: boolean;
  /** Ends the server for certain. Harmless when it has ended already. */
  stop(): Promise<void>;
  /** Sends a signal; waits for the end of the process where the signal ends it. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Stops the server if it runs, then starts it on the same data directory and port, other `extraArgs` if given. */
  restart(extraArgs?: readonly string[]): Promise<void>;
}

/** A cold first start (512 MB redo log on a slow disk, crash recovery) takes a few seconds; a minute is a failure. */
const startBoundMs = 60_000;
/** InnoDB flushes its buffer pool on SIGTERM; after this the process is stuck and killed. */
const stopBoundMs = 30_000;
/** A killed process can stay in the kernel until its disk writes end. */
const killBoundMs = 10_000;
/** The port was free a moment ago; somebody else can take it before the server does. */
const portAttempts = 4;

/** Starts a server and returns once root can log in. Throws E_SERVER_BINARY, E_SERVER_START with the log's tail. */
export async function startLocalServer(options: LocalServerOptions): Promise<LocalServer> {
  const binary = await findServerBinary(options.flavor);
  await mkdir(options.directory, { recursive: true });
  for (let attempt = 1; ; attempt++) {
    const place = await choosePlace(options.directory);
    const server = new Server(binary, options, place);
    try {
      const exists = await stat(place.datadir).catch(() => undefined);
      if (exists === undefined) await newDatadir(binary, place.datadir, options.signal);
      await server.start(options.signal);
      return server;
    } catch (error) {
      await server.stop();
      if (attempt === portAttempts || !(error instanceof Error) || !isPortTaken(error)) throw error;
    }
  }
}

class Server implements LocalServer {
  readonly flavor: ServerFlavor;
  readonly version: string;
  readonly host = "127.0.0.1";
  readonly port: number;
  readonly socket: string;
  readonly directory: string;
  readonly logFile: string;
  readonly rootConnection: LocalServer["rootConnection"];
  readonly #binary: ServerBinary;
  readonly #options: LocalServerOptions;
  readonly #place: Place;
  #extraArgs: readonly string[];
  #child: ChildProcess | undefined;
  /** Resolves when the process is gone. */
  #ended: Promise<void> = Promise.resolve();

  constructor(binary: ServerBinary, options: LocalServerOptions, place: Place) {
    this.flavor = binary.flavor;
    this.version = binary.version;
    this.port = place.port;
    this.socket = place.socket;
    this.directory = options.directory;
    this.logFile = join(options.directory, "server.log");
    this.rootConnection = { host: this.host, port: place.port, user: "root" };
    this.#binary = binary;
    this.#options = options;
    this.#place = place;
    this.#extraArgs = options.extraArgs ?? [];
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get running(): boolean {
    const child = this.#child;
    return child?.pid !== undefined && child.exitCode === null && child.signalCode === null;
  }

  async start(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#place.socketFolder !== undefined) {
      await mkdir(this.#place.socketFolder, { recursive: true, mode: 0o700 });
    }
    await using log = await open(this.logFile, "a");
    const logStart = (await log.stat()).size;
    const { bufferPoolMiB = 256, redoLogMiB = 512 } = this.#options;
    const args = serverArgs(this.flavor, this.#place, { bufferPoolMiB, redoLogMiB }, this.#extraArgs);
    const child = spawn(this.#binary.path, args, {
      stdio: ["ignore", log.fd, log.fd],
      // In a process group of its own: Ctrl-C at the terminal reaches us, and we decide when the server ends.
      detached: true,
    });
    this.#child = child;
    let spawnError: Error | undefined;
    this.#ended = new Promise((resolve) => {
      const killWithUs = (): boolean => child.kill("SIGKILL");
      process.once("exit", killWithUs);
      const end = (): void => {
        process.removeListener("exit", killWithUs);
        resolve();
      };
      child.once("exit", end);
      child.once("error", (error) => {
        spawnError = error;
        if (child.pid === undefined) end();
      });
    });
    const why = await this.#untilRootCanLogIn(signal);
    if (why === undefined) return;
    await this.stop();
    signal?.throwIfAborted();
    const written = (await readFile(this.logFile)).subarray(logStart).toString();
    const tail = written.trimEnd().split("\n").slice(-20).join("\n");
    throw new ShardliftError(
      "E_SERVER_START",
      `${this.flavor} ${this.version} did not start: ${why}; the end of ${this.logFile}:\n${tail}`,
      { cause: spawnError },
    );
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child !== undefined && this.running) {
      child.kill("SIGTERM");
      // One that was stopped by SIGSTOP takes its SIGTERM only after this.
      child.kill("SIGCONT");
      if (!(await within(this.#ended, stopBoundMs))) {
        child.kill("SIGKILL");
        if (!(await within(this.#ended, killBoundMs))) {
          throw new ShardliftError("E_SERVER_START", `${this.flavor} (pid ${this.pid}) outlived SIGKILL`, {
            next: `kill -9 ${this.pid}`,
          });
        }
      }
    }
    if (this.#place.socketFolder !== undefined) {
      await rm(this.#place.socketFolder, { recursive: true, force: true });
    }
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    if (!this.running) return;
    this.#child?.kill(signal);
    const ends = signal === "SIGKILL" || signal === "SIGTERM" || signal === "SIGABRT";
    if (ends && !(await within(this.#ended, stopBoundMs))) {
      throw new ShardliftError("E_SERVER_START", `${this.flavor} (pid ${this.pid}) outlived ${signal}`, {
        next: `kill -9 ${this.pid}`,
      });
    }
  }

  async restart(extraArgs?: readonly string[]): Promise<void> {
    await this.stop();
    if (extraArgs !== undefined) this.#extraArgs = extraArgs;
    await this.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Undefined when root is in, else why not. */
  async #untilRootCanLogIn(signal?: AbortSignal): Promise<string | undefined> {
    const deadline = performance.now() + startBoundMs;
    let last = "no answer";
    while (performance.now() < deadline) {
      if (signal?.aborted === true) return "the start was given up";
      if (!this.running) return "the process ended";
      // Over TCP, as everybody will come; `connect` fails at once while nobody listens.
      let connection: Connection | undefined;
      try {
        connection = await createConnection({ ...this.rootConnection, connectTimeout: 5_000 });
        // Another server may have taken the port in between: ours lies in our directory.
        const [rows] = await connection.query<RowDataPacket[]>("SELECT @@datadir AS served");
        await connection.end();
        if (rows[0]?.["served"] === `${this.#place.datadir}/`) return undefined;
        last = `another server answers at port ${this.port}`;
      } catch (error) {
        last = error instanceof Error ? error.message : String(error);
      } finally {
        connection?.destroy();
      }
      await delay(25);
    }
    return `root could not log in within ${startBoundMs / 1000} s (${last})`;
  }
}

/** "Address already in use" is what both servers print when somebody else listens at the port. */
function isPortTaken(error: Error): boolean {
  return /Address already in use|port is already in use|another server answers/i.test(error.message);
}

async function within(ended: Promise<void>, boundMs: number): Promise<boolean> {
  const timer = new AbortController();
  const late = delay(boundMs, false, { signal: timer.signal }).catch(() => false);
  const inTime = await Promise.race([ended.then(() => true), late]);
  timer.abort();
  return inTime;
}
