import { describe, expect, test } from "vitest";
import { eventType, headerLength } from "../../src/engines/mysql/log/event.ts";
import { furthest, gtidTracker } from "../../src/engines/mysql/log/gtid-tracker.ts";
import { finalFailure } from "../../src/engines/mysql/log/dump-failure.ts";
import { DumpEnded } from "../../src/engines/mysql/log/dump-stream.ts";
import { ShardliftError } from "../../src/errors/error.ts";

const uuid = "11111111-2222-3333-4444-555555555555";
const other = "99999999-2222-3333-4444-555555555555";

function mysqlGtid(source: string, number: bigint): Parameters<ReturnType<typeof gtidTracker>["begin"]> {
  const buffer = Buffer.alloc(headerLength + 42);
  buffer[4] = eventType.gtid;
  Buffer.from(source.replaceAll("-", ""), "hex").copy(buffer, headerLength + 1);
  buffer.writeBigInt64LE(number, headerLength + 17);
  return [{ buffer, start: 0, end: buffer.length }, buffer.length];
}

function mariadbGtid(
  domain: number,
  server: number,
  sequence: bigint,
): Parameters<ReturnType<typeof gtidTracker>["begin"]> {
  const buffer = Buffer.alloc(headerLength + 19);
  buffer[4] = eventType.mariadbGtid;
  buffer.writeUInt32LE(server, 5);
  buffer.writeBigUInt64LE(sequence, headerLength);
  buffer.writeUInt32LE(domain, headerLength + 8);
  return [{ buffer, start: 0, end: buffer.length }, buffer.length];
}

describe("MySQL positions", () => {
  test("grow by each committed transaction, with holes where numbers are missing", () => {
    const gtids = gtidTracker("mysql", `${uuid}:1-3`);
    for (const number of [4n, 5n, 9n, 10n, 7n]) {
      gtids.begin(...mysqlGtid(uuid, number));
      gtids.commit();
    }
    gtids.begin(...mysqlGtid(other, 9_007_199_254_740_993n));
    gtids.commit();
    expect(gtids.position()).toBe(`${uuid}:1-5:7:9-10,${other}:9007199254740993`);
  });

  test("leave out what is being read; what was seen includes it", () => {
    const gtids = gtidTracker("mysql", "");
    gtids.begin(...mysqlGtid(uuid, 1n));
    expect([gtids.position(), gtids.seen()]).toEqual(["", `${uuid}:1`]);
    gtids.abandon();
    expect(gtids.seen()).toBe("");
  });

  test("leave a hole for an undecided XA transaction until its verdict", () => {
    const gtids = gtidTracker("mysql", `${uuid}:1-3`);
    gtids.begin(...mysqlGtid(uuid, 4n));
    gtids.prepare("x");
    gtids.begin(...mysqlGtid(uuid, 5n));
    gtids.commit();
    expect([gtids.position(), gtids.seen()]).toEqual([`${uuid}:1-3:5`, `${uuid}:1-5`]);
    gtids.begin(...mysqlGtid(uuid, 6n));
    gtids.decide("x");
    expect(gtids.position()).toBe(`${uuid}:1-6`);
  });

  test("unite with what an earlier stream has seen", () => {
    expect(furthest("mysql", `${uuid}:1-9`, `${uuid}:1-5,${other}:1`)).toBe(`${uuid}:1-9,${other}:1`);
  });
});

describe("MariaDB positions", () => {
  test("name the last transaction of each domain, whatever server wrote it", () => {
    const gtids = gtidTracker("mariadb", "0-1-100,3-1-7");
    for (const [domain, server, sequence] of [
      [0, 1, 101n],
      [0, 2, 50n],
      [5, 1, 1n],
    ] as const) {
      gtids.begin(...mariadbGtid(domain, server, sequence));
      gtids.commit();
    }
    expect(gtids.position()).toBe("0-2-50,3-1-7,5-1-1");
  });

  test("stay in front of the earliest undecided XA transaction of their domain", () => {
    const gtids = gtidTracker("mariadb", "0-1-1");
    const read = (sequence: bigint, then: () => void): void => {
      gtids.begin(...mariadbGtid(0, 1, sequence));
      then();
    };
    read(2n, () => gtids.commit());
    read(3n, () => gtids.prepare("a"));
    read(4n, () => gtids.prepare("b"));
    gtids.begin(...mariadbGtid(9, 1, 1n));
    gtids.commit();
    expect([gtids.position(), gtids.seen()]).toEqual(["0-1-2,9-1-1", "0-1-4,9-1-1"]);
    read(5n, () => gtids.decide("a"));
    expect(gtids.position()).toBe("0-1-3,9-1-1");
    read(6n, () => gtids.decide("b"));
    expect(gtids.position()).toBe("0-1-6,9-1-1");
  });

  test("leave a domain out while its first transaction is undecided", () => {
    const gtids = gtidTracker("mariadb", "0-1-1");
    gtids.begin(...mariadbGtid(4, 1, 1n));
    gtids.prepare("a");
    expect([gtids.position(), gtids.seen()]).toEqual(["0-1-1", "0-1-1,4-1-1"]);
  });
});

describe("a failed dump", () => {
  const server = (errno: number, message: string): Error => Object.assign(new Error(message), { errno });

  test.each([
    new DumpEnded("the server ended the dump"),
    Object.assign(new Error("lost"), { code: "PROTOCOL_CONNECTION_LOST", fatal: true }),
    server(1053, "Server shutdown in progress"),
    server(1236, "A slave with the same server_uuid/server_id as this slave has connected to the master"),
    new ShardliftError("E_CONNECT", "refused", { retryable: true }),
  ])("is tried again: $message", (error) => {
    expect(finalFailure(error)).toBeUndefined();
  });

  test.each([
    [server(1236, "Cannot replicate because the source purged required binary logs."), "E_LOG_LOST"],
    [server(1236, "Could not find GTID state requested by slave in any binlog files."), "E_LOG_LOST"],
    [
      server(
        1236,
        "connecting slave requested to start from GTID 0-1-9, which is not in the master's binlog",
      ),
      "E_LOG_FOREIGN",
    ],
    [server(1236, "Slave has more GTIDs than the master has"), "E_LOG_FOREIGN"],
    [server(1236, "something new"), "E_LOG_UNREADABLE"],
    [server(1045, "Access denied"), "E_CONNECT"],
    [new TypeError("x is undefined"), "E_LOG_UNREADABLE"],
    [new ShardliftError("E_DDL", "changed"), "E_DDL"],
  ])("is final: %s", (error, code) => {
    expect(finalFailure(error)?.code).toBe(code);
  });
});
