/** The demo's check is only worth something if it reports each kind of damage: each test breaks one thing. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  compareWithPromises,
  type FoundRow,
  type FoundRows,
  judgeRow,
} from "../../src/demo/compare-promises.ts";
import type { Promises, RowHistory, RowWrite } from "../../src/demo/write-ledger.ts";

function row(trail: string, changes: Partial<FoundRow> = {}): FoundRow {
  const ver = trail === "" ? 0 : trail.split(" ").length;
  return { shard: "s0", user: "7", ver, trail, hops: "", fixed: "f", all: `${trail}|f`, ...changes };
}

function write(kind: RowWrite["kind"], token: string, user = 7): RowHistory[number] {
  return { write: { row: "orders/1", token, kind, user }, outcome: "acknowledged" };
}

function unknown(kind: RowWrite["kind"], token: string): RowHistory[number] {
  return { ...write(kind, token), outcome: "unknown" };
}

const clean = { lost: [], repeated: [], changed: [] };
const seeded = row("1=seed-1");

describe("a row that the application wrote", () => {
  const history = [write("update", "a"), write("update", "b"), write("update", "c")];

  test("is right when it holds every token once, in order and numbered", () => {
    expect(judgeRow(seeded, row("1=seed-1 2=a 3=b 4=c"), history)).toEqual(clean);
  });

  test.each([
    ["the last write is lost", "1=seed-1 2=a 3=b", ["the write c is lost"]],
    ["a write in between is lost", "1=seed-1 2=a 3=c", ["the write b is lost"]],
    ["all are lost", "1=seed-1", ["the write a is lost", "the write b is lost", "the write c is lost"]],
    ["the row's start is lost", "1=a 2=b 3=c", ["the write seed-1 is lost"]],
  ])("loses something: %s", (_, trail, lost) => {
    expect(judgeRow(seeded, row(trail), history)).toEqual({ ...clean, lost });
  });

  test("loses every write when the row is gone", () => {
    expect(judgeRow(seeded, undefined, history).lost).toHaveLength(3);
  });

  test("holds a write twice", () => {
    const found = row("1=seed-1 2=a 3=b 4=b 5=c");
    expect(judgeRow(seeded, found, history)).toEqual({ ...clean, repeated: ["the write b is there twice"] });
  });

  test("holds a write that was not sent", () => {
    const found = row("1=seed-1 2=a 3=b 4=c 5=x");
    expect(judgeRow(seeded, found, history)).toEqual({
      ...clean,
      repeated: ["the write x should not be there"],
    });
  });

  test("holds the writes in another order", () => {
    const { lost } = judgeRow(seeded, row("1=seed-1 2=b 3=a 4=c"), history);
    expect(lost).toEqual([expect.stringContaining("out of order")]);
  });

  test.each([
    ["a gap", "1=seed-1 2=a 4=b 5=c", 5],
    ["a repeated number", "1=seed-1 2=a 2=b 3=c", 3],
    ["a version that does not fit", "1=seed-1 2=a 3=b 4=c", 5],
  ])("has %s in its numbers", (_, trail, ver) => {
    expect(judgeRow(seeded, row(trail, { ver }), history).lost).toEqual([
      expect.stringContaining("does not fit"),
    ]);
  });

  test("has changed in a column that nobody writes", () => {
    const found = row("1=seed-1 2=a 3=b 4=c", { fixed: "other" });
    expect(judgeRow(seeded, found, history).changed).toHaveLength(1);
  });
});

describe("a row that the application inserted or deleted", () => {
  test("is right with the tokens since its last insert", () => {
    const history = [write("insert", "a"), write("update", "b"), write("delete", "c"), write("insert", "d")];
    expect(judgeRow(undefined, row("1=d"), history)).toEqual(clean);
    expect(judgeRow(undefined, row("1=a 2=b 3=d"), history).repeated).toHaveLength(2);
  });

  test("is lost when it is not there", () => {
    expect(judgeRow(undefined, undefined, [write("insert", "a")]).lost).toHaveLength(1);
  });

  test("must be gone after its delete", () => {
    const history = [write("update", "a"), write("delete", "b")];
    expect(judgeRow(seeded, undefined, history)).toEqual(clean);
    expect(judgeRow(seeded, row("1=seed-1 2=a"), history).lost).toEqual([
      expect.stringContaining("the delete b is lost"),
    ]);
  });
});

describe("a row that was moved to another user", () => {
  const history = [write("update", "a"), write("move", "m", 9)];

  test("is right with the hop and the new user", () => {
    expect(judgeRow(seeded, row("1=seed-1 2=a", { user: "9", hops: "m" }), history)).toEqual(clean);
  });

  test.each([
    ["the move is lost", { user: "7", hops: "" }],
    ["only the user is the old one", { user: "7", hops: "m" }],
    ["only the hop is missing", { user: "9", hops: "" }],
  ])("is wrong when %s", (_, found) => {
    expect(judgeRow(seeded, row("1=seed-1 2=a", found), history).lost).toHaveLength(1);
  });

  test("is wrong when the move is there twice", () => {
    const found = row("1=seed-1 2=a", { user: "9", hops: "m m" });
    expect(judgeRow(seeded, found, history).repeated).toHaveLength(1);
  });
});

describe("a write whose outcome the application does not know", () => {
  test("may be there or not", () => {
    const history = [write("update", "a"), unknown("update", "b")];
    expect(judgeRow(seeded, row("1=seed-1 2=a"), history)).toEqual(clean);
    expect(judgeRow(seeded, row("1=seed-1 2=a 3=b"), history)).toEqual(clean);
    expect(judgeRow(seeded, row("1=seed-1 2=b"), history).lost).toHaveLength(1);
  });

  test("may have deleted the row or not", () => {
    const history = [write("update", "a"), unknown("delete", "b")];
    expect(judgeRow(seeded, undefined, history)).toEqual(clean);
    expect(judgeRow(seeded, row("1=seed-1 2=a"), history)).toEqual(clean);
    expect(judgeRow(seeded, row("1=seed-1"), history).lost).toHaveLength(1);
  });
});

describe("all rows", () => {
  const found = (rows: Record<string, FoundRow>, changes: Partial<FoundRows> = {}): FoundRows => ({
    rows: new Map(Object.entries(rows)),
    twice: [],
    astray: [],
    ...changes,
  });
  const promised = (rows: Record<string, RowHistory>, uncertain: readonly string[] = []): Promises => ({
    rows: new Map(Object.entries(rows)),
    uncertainInserts: new Set(uncertain),
  });
  const untouched = { "orders/1": seeded, "orders/2": row("1=seed-2") };
  const figures = (after: FoundRows, promises = promised({})) => {
    const { lost, duplicated, changed } = compareWithPromises(found(untouched), after, promises);
    return { lost, duplicated, changed };
  };

  test("are right when nothing happened", () => {
    const result = compareWithPromises(found(untouched), found(untouched), promised({}));
    expect(result).toEqual({ rows: 2, lost: 0, duplicated: 0, changed: 0, details: [] });
  });

  test("are reported when an untouched row is gone or not byte for byte the same", () => {
    expect(figures(found({ "orders/1": seeded }))).toEqual({ lost: 0, duplicated: 0, changed: 1 });
    const other = { ...untouched, "orders/2": row("1=seed-2", { all: "one byte more" }) };
    expect(figures(found(other))).toEqual({ lost: 0, duplicated: 0, changed: 1 });
  });

  test("are reported when a row is there that nobody inserted", () => {
    expect(figures(found({ ...untouched, "orders/3": row("1=x") }))).toEqual({
      lost: 0,
      duplicated: 1,
      changed: 0,
    });
  });

  test("are right when an insert without an answer is there, or not", () => {
    const promises = promised({}, ["x"]);
    expect(figures(found({ ...untouched, "orders/3": row("1=x") }), promises)).toEqual({
      lost: 0,
      duplicated: 0,
      changed: 0,
    });
    expect(figures(found(untouched), promises)).toEqual({ lost: 0, duplicated: 0, changed: 0 });
  });

  test("are reported when a row has two owners or lies at a shard that never owned it", () => {
    expect(figures(found(untouched, { twice: ["orders/1"] }))).toEqual({
      lost: 0,
      duplicated: 1,
      changed: 0,
    });
    expect(figures(found(untouched, { astray: ["orders/9"] }))).toEqual({
      lost: 0,
      duplicated: 0,
      changed: 1,
    });
  });

  test("are described one by one", () => {
    const history = { "orders/1": [write("update", "a")] };
    const { details } = compareWithPromises(found(untouched), found(untouched), promised(history));
    expect(details).toEqual(["orders/1: the write a is lost"]);
  });
});

/** What a faithful database would hold after the history. */
function replay(history: RowHistory): FoundRow | undefined {
  let state: FoundRow | undefined = seeded;
  for (const { write: one } of history) {
    if (one.kind === "delete") state = undefined;
    else if (one.kind === "insert") state = row(`1=${one.token}`, { user: String(one.user) });
    else if (state !== undefined) {
      const next = one.kind === "move" ? state.trail : `${state.trail} ${state.ver + 1}=${one.token}`;
      const hops = one.kind === "move" ? `${state.hops} ${one.token}`.trim() : state.hops;
      state = row(next, { user: String(one.user), hops });
    }
  }
  return state;
}

/** Histories as a writer makes them: it inserts what is gone and writes what is there. */
const histories = fc
  .array(fc.constantFrom("update", "move", "delete"), { maxLength: 12 })
  .map((wishes): RowHistory => {
    const history: RowHistory[number][] = [];
    let isThere = true;
    let user = 7;
    for (const [index, wish] of wishes.entries()) {
      const kind: RowWrite["kind"] = isThere ? wish : "insert";
      if (kind === "move") user += 1;
      history.push(write(kind, `t${index}`, user));
      isThere = kind !== "delete";
    }
    return history;
  });

test("any history is right as it was promised, and wrong when one of its writes is left out or done twice", () => {
  fc.assert(
    fc.property(histories, fc.nat(), (history, pick) => {
      expect(judgeRow(seeded, replay(history), history)).toEqual(clean);
      if (history.length === 0) return;
      const index = pick % history.length;
      const without = history.toSpliced(index, 1);
      const broken = replay(without);
      // A write that a later delete or insert wipes out leaves no trace in either case.
      if (JSON.stringify(broken) !== JSON.stringify(replay(history))) {
        expect(judgeRow(seeded, broken, history)).not.toEqual(clean);
      }
      const one = history[index];
      if (one === undefined || one.write.kind !== "update") return;
      const twice = replay(history.toSpliced(index, 0, one));
      if (JSON.stringify(twice) !== JSON.stringify(replay(history))) {
        expect(judgeRow(seeded, twice, history).repeated).not.toEqual([]);
      }
    }),
  );
});
