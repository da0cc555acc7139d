import { EventEmitter } from "node:events";
import { PassThrough } from "node:stream";
import { Args, Flags, Parser } from "@oclif/core";
import { describe, expect, test } from "vitest";
import { errorEnvelope, errorEnvelopeOf } from "../../src/cli/envelope.ts";
import { errorText } from "../../src/cli/error-text.ts";
import { causesOf, failureOf } from "../../src/cli/failure.ts";
import { commonFlags } from "../../src/cli/flags.ts";
import { listenForInterrupt } from "../../src/cli/interrupt.ts";
import { requestOf } from "../../src/cli/usage.ts";
import { codes, type ErrorCode } from "../../src/errors/codes.ts";
import { InputError, ShardliftError } from "../../src/errors/error.ts";
import { Secrets } from "../../src/lib/redact.ts";

const plain = new PassThrough() as unknown as NodeJS.WriteStream;

async function thrownBy(argv: string[]): Promise<unknown> {
  const flags = { ...commonFlags, into: Flags.string({ required: true }), rate: Flags.integer() };
  return Parser.parse(argv, {
    flags,
    args: { shard: Args.string({ required: true, description: "the shard" }) },
  }).then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe("usage errors", () => {
  test.each([
    [["s0", "--into", "a", "--jsn"], { where: "--jsn", found: "unknown flag", closest: "--json" }],
    [["--into", "a"], { where: "SHARD", found: "the argument is missing", accepted: "the shard" }],
    [["s0"], { where: "--into", found: "the flag is missing" }],
    [["s0", "s1", "--into", "a"], { where: "s1", found: "one argument too many", accepted: "SHARD" }],
    [["s0", "--into"], { where: "--into", found: "no value" }],
    [["s0", "--into", "a", "--output", "lve"], { where: "--output", found: '"lve"', closest: "live" }],
    [["s0", "--into", "a", "--rate", "x"], { where: "--rate", found: "expected an integer but received: x" }],
  ])("%j ends with exit 2 and names the place", async (argv, problem) => {
    const failure = failureOf(await thrownBy(argv), { command: "shardlift split" });
    expect(failure.exit).toBe(2);
    expect(failure.fix).toBe("Run `shardlift split --help`.");
    expect((failure.error as InputError).problems).toMatchObject([problem]);
  });

  test("do not carry argv or the package's configuration into JSON", async () => {
    const document = errorEnvelopeOf(
      failureOf(await thrownBy(["s0", "--nope", "--into", "c4nary"])),
      new Secrets(),
    );
    expect(errorEnvelope.parse(document)).toEqual(document);
    expect(JSON.stringify(document)).not.toMatch(/c4nary|argv|pjson/);
  });
});

describe("commands", () => {
  const known = {
    commandIDs: ["config:schema", "config:validate", "plan:split", "split", "status", "help"],
    topics: [{ name: "config" }, { name: "plan" }],
  };

  test.each([
    [["split", "s0", "--into", "a"], { kind: "command", id: "split", argv: ["s0", "--into", "a"] }],
    [["config", "validate", "--json"], { kind: "command", id: "config:validate", argv: ["--json"] }],
    [["status"], { kind: "command", id: "status", argv: [] }],
    [["config"], { kind: "help" }],
    [["split", "--help"], { kind: "help" }],
    [["--version"], { kind: "help" }],
    [[], { kind: "help" }],
  ])("%j is understood", (argv, request) => expect(requestOf(argv, known)).toEqual(request));

  test.each([
    [["splti", "s0"], "splti", "split"],
    [["confg", "validate"], "confg", "config validate"],
    [["config", "valdate"], "config valdate", "config validate"],
    [["plan", "splt", "s0"], "plan splt", "plan split"],
    [["frobnicate"], "frobnicate", undefined],
    [["--json", "status"], "--json", undefined],
  ])("%j is refused with the closest command", (argv, where, closest) => {
    expect(() => requestOf(argv, known)).toThrow(
      expect.objectContaining({
        exit: 2,
        problems: [expect.objectContaining({ where, ...(closest === undefined ? {} : { closest }) })],
      }),
    );
  });
});

describe("how a command ends", () => {
  test("every code has its documented exit code", () => {
    for (const [code, { exit }] of Object.entries(codes)) {
      expect(failureOf(new ShardliftError(code as ErrorCode, "x")).exit).toBe(exit);
    }
  });

  test("an interruption exits with 130, by SIGTERM with 143", () => {
    const error = new ShardliftError("E_INTERRUPTED", "x");
    expect(failureOf(error).exit).toBe(130);
    expect(failureOf(error, { interrupted: "SIGINT" }).exit).toBe(130);
    expect(failureOf(error, { interrupted: "SIGTERM" }).exit).toBe(143);
  });

  test("an aborted call of Node ends with the reason of the abort", () => {
    const controller = new AbortController();
    controller.abort(new ShardliftError("E_INTERRUPTED", "interrupted"));
    const error = new DOMException("The operation was aborted", {
      name: "AbortError",
      cause: controller.signal.reason,
    });
    expect(failureOf(error).error.code).toBe("E_INTERRUPTED");
  });

  test("an unknown error is a bug with its stack", () => {
    const failure = failureOf(new TypeError("x is not a function"));
    expect(failure).toMatchObject({
      exit: 1,
      error: { code: "E_BUG", message: "TypeError: x is not a function" },
    });
    expect(failure.stack).toContain("cli-failure.test.ts");
    expect(causesOf(failure)).toEqual([]);
    expect(failureOf("just a string").error.message).toBe("thrown: just a string");
  });

  test("of an error and a failed clean-up, the error is told first and the clean-up beside it", async () => {
    const main = new ShardliftError("E_CONNECT", "s0 does not answer", { cause: new Error("ECONNREFUSED") });
    const thrown: unknown = await (async () => {
      await using _ = { [Symbol.asyncDispose]: () => Promise.reject(new Error("close failed")) };
      throw main;
    })().catch((error: unknown) => error);
    const failure = failureOf(thrown);
    expect(failure.error).toBe(main);
    expect(causesOf(failure)).toEqual(["ECONNREFUSED", "also: close failed"]);
    expect(failureOf(new AggregateError([main, new Error("b")])).also).toEqual(["b"]);
  });

  test("a chain of causes that leads back to itself ends", () => {
    const a = new Error("a");
    a.cause = new Error("b", { cause: a });
    expect(causesOf(failureOf(new ShardliftError("E_CONNECT", "x", { cause: a }))).length).toBeLessThan(12);
  });
});

describe("an error for people", () => {
  const secrets = new Secrets();
  secrets.add("c4nary");

  test("says what, why, the fix and the code, without secrets and control characters", () => {
    const error = new ShardliftError("E_CONNECT", "could not connect to s0 as c4nary\u001b[2J", {
      cause: new Error("Access denied (using c4nary)"),
      next: "try c4nary",
    });
    expect(errorText(failureOf(error), secrets, plain)).toBe(
      [
        "Error: could not connect to s0 as [redacted]\\u001b[2J",
        "  because   Access denied (using [redacted])",
        "  fix       try [redacted]",
        "  code      E_CONNECT (exit 4)",
      ].join("\n"),
    );
  });

  test("lists every problem of the input", () => {
    const error = new InputError("E_CONFIG", [
      { where: "a.yaml:1:2", found: "x", accepted: "y", closest: "z" },
      { where: "a.yaml:3:4", found: "v", accepted: "w" },
    ]);
    expect(errorText(failureOf(error), secrets, plain)).toBe(
      [
        "Error: 2 problems in the configuration",
        "",
        "  a.yaml:1:2",
        "    found     x",
        "    accepted  y",
        "    closest   z",
        "",
        "  a.yaml:3:4",
        "    found     v",
        "    accepted  w",
        "",
        "  fix       Mend the listed lines, then run `shardlift config validate`.",
        "  code      E_CONFIG (exit 2)",
      ].join("\n"),
    );
  });

  test("lists preflight findings but for those that are well", () => {
    const finding = {
      check: "row-format",
      where: "s0",
      why: "STATEMENT",
      fix: "SET GLOBAL binlog_format='ROW';",
    };
    const error = Object.assign(new ShardliftError("E_PREFLIGHT", "one blocker"), {
      findings: [
        { ...finding, level: "blocker" },
        { ...finding, level: "ok", check: "fine" },
      ],
    });
    const text = errorText(failureOf(error), secrets, plain);
    expect(text).toContain("  blocker row-format  s0\n  why       STATEMENT\n  fix       SET GLOBAL");
    expect(text).not.toContain("fine");
    expect(errorEnvelope.parse(errorEnvelopeOf(failureOf(error), secrets)).error.findings).toHaveLength(2);
  });
});

describe("Ctrl-C", () => {
  function source() {
    const exits: (number | undefined)[] = [];
    const emitter = Object.assign(new EventEmitter(), { exit: (code?: number) => void exits.push(code) });
    return { emitter: emitter as unknown as NodeJS.Process & EventEmitter, exits };
  }

  test("the first one asks to stop, the second one exits at once", () => {
    const { emitter, exits } = source();
    const told: string[] = [];
    using interrupt = listenForInterrupt({ onFirst: (name) => told.push(name), source: emitter });
    expect(interrupt.signal.aborted).toBe(false);
    emitter.emit("SIGINT");
    expect(interrupt.signal.reason).toMatchObject({ code: "E_INTERRUPTED" });
    expect([told, exits, interrupt.received]).toEqual([["SIGINT"], [], "SIGINT"]);
    emitter.emit("SIGINT");
    expect(exits).toEqual([130]);
    emitter.emit("SIGTERM");
    expect([told, exits]).toEqual([["SIGINT"], [130, 143]]);
  });

  test("the signals are handed back at the end", () => {
    const { emitter } = source();
    listenForInterrupt({ onFirst: () => undefined, source: emitter })[Symbol.dispose]();
    expect(emitter.listenerCount("SIGINT") + emitter.listenerCount("SIGTERM")).toBe(0);
  });
});
