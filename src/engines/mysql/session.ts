import { invariant } from "../../errors/error.ts";
import type {
  BarrierSource,
  Claim,
  Endpoint,
  Gates,
  ServerPressure,
  Session,
  SessionOptions,
  Writer,
} from "../engine.ts";
import { MysqlBarriers } from "./barriers.ts";
import { MysqlCatalog } from "./catalog.ts";
import { Connector } from "./connect.ts";
import { ControlPool } from "./control-pool.ts";
import { MysqlDigests } from "./digests.ts";
import { openGates } from "./gates.ts";
import { MysqlLedger } from "./ledger.ts";
import { readPressure } from "./pressure.ts";
import { MysqlReader } from "./reader.ts";
import type { ServerFacts } from "./server-facts.ts";
import { SessionLog } from "./session-log.ts";
import { MysqlWriter } from "./writer.ts";

/** Control queries are short; more at once than this would only wait for each other at the server. */
const controlConnections = 4;

/**
 * One MySQL or MariaDB server, as its roles. All of them open their connections through one connector, so that the
 * session's end, an abort and a takeover reach every connection that this process has at the server.
 */
export class MysqlSession implements Session {
  readonly server: ServerFacts;
  readonly catalog: MysqlCatalog;
  readonly reader: MysqlReader;
  readonly log: SessionLog;
  readonly digests: MysqlDigests;
  readonly ledger: MysqlLedger;
  readonly gates: Gates;
  /** For the preflight rules, which ask what no role needs to know. */
  readonly control: ControlPool;
  readonly connector: Connector;
  readonly #writes: { readonly writer: Writer; readonly barriers: BarrierSource } | undefined;

  private constructor(connector: Connector, gates: Gates, claim: Claim | undefined) {
    this.connector = connector;
    this.server = connector.facts;
    this.control = new ControlPool(connector, controlConnections);
    this.catalog = new MysqlCatalog(this.control, connector, claim);
    this.reader = new MysqlReader(connector);
    this.log = new SessionLog(connector);
    this.digests = new MysqlDigests(connector);
    this.ledger = new MysqlLedger(this.control, claim, connector);
    this.gates = gates;
    if (claim !== undefined) {
      const seenGtids = (): string => this.log.seenGtids();
      this.#writes = {
        writer: new MysqlWriter(connector, claim),
        barriers: new MysqlBarriers(connector, claim, { seenGtids }),
      };
    }
  }

  static async open(endpoint: Endpoint, options: SessionOptions): Promise<MysqlSession> {
    const connector = await Connector.open(endpoint, options);
    try {
      return new MysqlSession(connector, await openGates(connector, options.claim), options.claim);
    } catch (error) {
      await connector.closeAll();
      throw error;
    }
  }

  get writer(): Writer {
    return this.#mayWrite().writer;
  }

  get barriers(): BarrierSource {
    return this.#mayWrite().barriers;
  }

  pressure(): Promise<ServerPressure> {
    return this.control.again(readPressure);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connector.closeAll();
  }

  #mayWrite(): { readonly writer: Writer; readonly barriers: BarrierSource } {
    invariant(this.#writes !== undefined, "a session without a claim is asked to write");
    return this.#writes;
  }
}
