import type { Socket } from "node:net";
import type { MysqlConnection } from "../query.ts";
import type { LogEvent } from "./event.ts";

/**
 * A connection that has become a log dump. Packets are queued as they arrive, without a copy; at a bound the socket is
 * paused and the server waits, so a slow reader costs no memory (DESIGN rule 10). mysql2's own pause() is not used: it
 * clones packets and then miscounts those above 16 MB.
 */
export interface DumpOptions {
  readonly request: Buffer;
  /** Bytes that may wait; one event may be larger. */
  readonly queueBytes: number;
  /**
   * The server sends a heartbeat when it has nothing else. Without any byte for so long the connection is taken for
   * dead: half-open TCP is never noticed otherwise (facts/copy-and-log, 1).
   */
  readonly silenceMs: number;
  /** Ends the dump at once; whoever waits gets its reason. */
  readonly signal: AbortSignal;
  /** Gives the connection back to whoever opened it. */
  readonly close: () => Promise<void>;
}

/** The dump ended, by the server's word or without it. */
export class DumpEnded extends Error {
  override readonly name = "DumpEnded";
}

/** As mysql2 hands over a packet; it uses the object again for the next one. */
interface Packet {
  readonly buffer: Buffer;
  readonly offset: number;
  readonly end: number;
  isEOF(): boolean;
  isError(): boolean;
  asError(encoding: string): Error;
}

/** What a command of mysql2 may call; both are what its own commands use. */
interface CommandConnection {
  _resetSequenceId(): void;
  writePacket(packet: {
    readonly buffer: Buffer;
    readonly offset: number;
    length(): number;
    writeHeader(sequenceId: number): void;
  }): void;
}

export class DumpStream implements AsyncDisposable {
  readonly #options: DumpOptions;
  readonly #socket: Socket;
  readonly #watchdog: NodeJS.Timeout;
  #queue: LogEvent[];
  #head: number;
  #bytes: number;
  #paused: boolean;
  #asked: boolean;
  #quietTicks: number;
  #bytesRead: number;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  /** The connection belongs to the stream from here on. */
  constructor(connection: MysqlConnection, options: DumpOptions) {
    this.#options = options;
    this.#queue = [];
    this.#head = 0;
    this.#bytes = 0;
    this.#paused = false;
    this.#asked = false;
    this.#quietTicks = 0;
    this.#bytesRead = 0;
    this.#failure = undefined;
    this.#wake = undefined;
    this.#watchdog = setInterval(() => this.#tick(), options.silenceMs / silenceTicks);
    const command = {
      execute: (packet: unknown, on: unknown): boolean =>
        this.#execute(packet as Packet | undefined, on as CommandConnection),
      // mysql2 reports a lost connection here.
      onResult: (error: Error): void => this.#fail(error),
    };
    this.#socket = connection.stream;
    connection.on("error", (error: Error) => this.#fail(error));
    options.signal.addEventListener("abort", this.#abort, { once: true });
    if (options.signal.aborted) this.#abort();
    else connection.addCommand(command);
  }

  /** The next event that is there, or undefined. Throws when the stream has ended and everything is read. */
  take(): LogEvent | undefined {
    const event = this.#queue[this.#head];
    // What came before a failure is still good; an abort counts at once.
    if (this.#failure !== undefined && (event === undefined || this.#options.signal.aborted))
      throw this.#failure;
    if (event === undefined) return undefined;
    this.#head += 1;
    this.#bytes -= event.end - event.start;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    }
    if (this.#paused && this.#bytes < this.#options.queueBytes / 2) {
      this.#paused = false;
      this.#socket.resume();
    }
    return event;
  }

  /** Waits until `take` has something to say. */
  async arrival(): Promise<void> {
    if (this.#queue.length > 0 || this.#failure !== undefined) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new DumpEnded("the dump was closed"));
    await this.#options.close();
  }

  #execute(packet: Packet | undefined, connection: CommandConnection): boolean {
    if (!this.#asked) {
      this.#asked = true;
      const buffer = Buffer.concat([Buffer.alloc(4), this.#options.request]);
      connection._resetSequenceId();
      connection.writePacket({
        buffer,
        offset: 0,
        length: () => buffer.length,
        writeHeader: (sequenceId) =>
          buffer.writeUInt8(sequenceId, buffer.writeUIntLE(buffer.length - 4, 0, 3)),
      });
      return false;
    }
    if (packet === undefined || this.#failure !== undefined) return this.#failure !== undefined;
    if (packet.buffer[packet.offset] === 0) {
      this.#queue.push({ buffer: packet.buffer, start: packet.offset + 1, end: packet.end });
      this.#bytes += packet.end - packet.offset - 1;
      if (!this.#paused && this.#bytes > this.#options.queueBytes) {
        this.#paused = true;
        this.#socket.pause();
      }
      this.#wakeUp();
      return false;
    }
    this.#fail(packet.isError() ? packet.asError("utf8") : new DumpEnded("the server ended the dump"));
    return true;
  }

  /**
   * Counted in ticks of the event loop's own clock: a process that was stopped or busy has also not read, and finds
   * what came meanwhile in the poll between two ticks.
   */
  #tick(): void {
    // Bytes and not packets: a large row may be under way for longer.
    const { bytesRead } = this.#socket;
    if (this.#paused || bytesRead !== this.#bytesRead) this.#quietTicks = 0;
    else this.#quietTicks += 1;
    this.#bytesRead = bytesRead;
    if (this.#quietTicks > silenceTicks) {
      this.#fail(new DumpEnded(`nothing came from the server for ${this.#options.silenceMs} ms`));
    }
  }

  #fail(error: Error): void {
    clearInterval(this.#watchdog);
    this.#failure ??= error;
    this.#socket.destroy();
    this.#options.signal.removeEventListener("abort", this.#abort);
    this.#wakeUp();
  }

  readonly #abort = (): void => this.#fail(this.#options.signal.reason as Error);

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

const silenceTicks = 4;
