import type { Promises, RowHistory, RowName } from "./write-ledger.ts";

/** A row as found by a plain read. */
export interface FoundRow {
  readonly shard: string;
  readonly user: string;
  readonly ver: number;
  readonly trail: string;
  readonly hops: string;
  /** Of the columns that no writer changes. */
  readonly fixed: string;
  /** Of all columns. */
  readonly all: string;
}

export interface FoundRows {
  readonly rows: ReadonlyMap<RowName, FoundRow>;
  /** Rows that are owned by two shards. */
  readonly twice: readonly RowName[];
  /** Rows at a shard that has never owned their keys. */
  readonly astray: readonly RowName[];
}

export interface CheckResult {
  /** Rows that were looked at after the split. */
  readonly rows: number;
  /** Acknowledged writes that are not there. */
  readonly lost: number;
  /** Writes that are there twice or that nobody sent, and rows with two owners. */
  readonly duplicated: number;
  /** What nobody wrote and is not as it was. */
  readonly changed: number;
  /** A sentence for each of them. */
  readonly details: readonly string[];
}

/** Everything that is not as it was promised. Pure. */
export function compareWithPromises(before: FoundRows, after: FoundRows, promises: Promises): CheckResult {
  const details = [
    ...after.twice.map((name) => `${name} is owned by two shards`),
    ...after.astray.map((name) => `${name} is at a shard that has never owned its key`),
  ];
  let lost = 0;
  let duplicated = after.twice.length;
  let changed = after.astray.length;
  for (const [name, history] of promises.rows) {
    const verdict = judgeRow(before.rows.get(name), after.rows.get(name), history);
    lost += verdict.lost.length;
    duplicated += verdict.repeated.length;
    changed += verdict.changed.length;
    for (const what of [...verdict.lost, ...verdict.repeated, ...verdict.changed])
      details.push(`${name}: ${what}`);
  }
  for (const [name, row] of before.rows) {
    if (promises.rows.has(name) || after.rows.get(name)?.all === row.all) continue;
    changed += 1;
    details.push(`${name}: nobody wrote it, and it is ${after.rows.has(name) ? "not what it was" : "gone"}`);
  }
  for (const [name, row] of after.rows) {
    if (before.rows.has(name) || promises.rows.has(name) || isUncertain(row, promises)) continue;
    duplicated += 1;
    details.push(`${name}: nobody inserted it, and it is there with ${row.trail}`);
  }
  return { rows: after.rows.size, lost, duplicated, changed, details };
}

export interface RowVerdict {
  /** A sentence per write that is lost, repeated, or per part of the row that changed by itself. */
  readonly lost: readonly string[];
  readonly repeated: readonly string[];
  readonly changed: readonly string[];
}

/** What a row is, or must be: the tokens of its writes since its last insert, in order, and who has it. */
interface Life {
  readonly tokens: readonly string[];
  readonly hops: readonly string[];
  readonly user: string;
  /** From before the writers began, not inserted by them. */
  readonly seeded: boolean;
  /** Its last write: what is lost when the row is there and should be gone, or the other way round. */
  readonly last: string;
}
type Fate =
  | { readonly kind: "there"; readonly life: Life }
  | { readonly kind: "gone"; readonly last: string };

/**
 * One row: it must hold the tokens of its acknowledged writes since its last insert, each once, in order, numbered
 * without a gap, and nothing else. A write with an unknown outcome may have happened or not.
 */
export function judgeRow(
  before: FoundRow | undefined,
  after: FoundRow | undefined,
  history: RowHistory,
): RowVerdict {
  const verdicts = fatesOf(before, history).map((fate) => judge(fate, before, after));
  const faults = (verdict: RowVerdict): number =>
    verdict.lost.length + verdict.repeated.length + verdict.changed.length;
  return verdicts.reduce((best, verdict) => (faults(verdict) < faults(best) ? verdict : best));
}

/** Every fate that the row may have had: an unknown write makes two of each. */
function fatesOf(before: FoundRow | undefined, history: RowHistory): Fate[] {
  let fates: Fate[] = [
    before === undefined ? { kind: "gone", last: "" } : { kind: "there", life: lifeOf(before) },
  ];
  for (const { write, outcome } of history) {
    const next = fates.map((fate) => afterWrite(fate, write));
    fates = outcome === "acknowledged" ? next : [...fates, ...next];
  }
  return fates;
}

function afterWrite(fate: Fate, { kind, token, user }: RowHistory[number]["write"]): Fate {
  if (kind === "delete") return { kind: "gone", last: token };
  const life = fate.kind === "there" && kind !== "insert" ? fate.life : undefined;
  const { tokens = [], hops = [], seeded = false } = life ?? {};
  return {
    kind: "there",
    life: {
      tokens: kind === "move" ? tokens : [...tokens, token],
      hops: kind === "move" ? [...hops, token] : hops,
      user: String(user),
      seeded,
      last: token,
    },
  };
}

function judge(fate: Fate, before: FoundRow | undefined, after: FoundRow | undefined): RowVerdict {
  const nothing = { lost: [], repeated: [], changed: [] };
  if (fate.kind === "gone") {
    if (after === undefined) return nothing;
    return { ...nothing, lost: [`the delete ${fate.last} is lost: the row is there with ${after.trail}`] };
  }
  const { life } = fate;
  if (after === undefined) {
    const writes = [...life.tokens, ...life.hops].filter((token) => !token.startsWith("seed-"));
    return { ...nothing, lost: writes.map((token) => `the write ${token} is lost: the row is gone`) };
  }
  const tokens = compareTokens("write", life.tokens, tokensOf(after.trail));
  const hops = compareTokens("move", life.hops, words(after.hops));
  const lost = [...tokens.lost, ...hops.lost];
  const repeated = [...tokens.repeated, ...hops.repeated];
  if (lost.length + repeated.length === 0) {
    // Nothing may look right by accident: order, numbers and owner count as lost writes too.
    lost.push(...misplaced(life, after));
  }
  const isOther = life.seeded && before !== undefined && before.fixed !== after.fixed;
  return { lost, repeated, changed: isOther ? ["columns that nobody wrote are not what they were"] : [] };
}

function compareTokens(
  what: string,
  expected: readonly string[],
  found: readonly string[],
): { lost: string[]; repeated: string[] } {
  const [there, due] = [new Set(found), new Set(expected)];
  return {
    lost: expected.filter((token) => !there.has(token)).map((token) => `the ${what} ${token} is lost`),
    repeated: [
      ...[...there]
        .filter((token) => !due.has(token))
        .map((token) => `the ${what} ${token} should not be there`),
      ...found
        .filter((token, index) => found.indexOf(token) !== index)
        .map((token) => `the ${what} ${token} is there twice`),
    ],
  };
}

function misplaced(life: Life, after: FoundRow): string[] {
  const problems: string[] = [];
  if (
    tokensOf(after.trail).join(" ") !== life.tokens.join(" ") ||
    words(after.hops).join(" ") !== life.hops.join(" ")
  ) {
    problems.push(`the writes are out of order: ${after.trail} | ${after.hops}`);
  }
  if (!isWellNumbered(after)) problems.push(`version ${after.ver} does not fit ${after.trail}`);
  if (after.user !== life.user)
    problems.push(`it belongs to user ${after.user}, not to ${life.user} (${life.last})`);
  return problems;
}

/** `1=a 2=b`, and the version is the last number: no gap, no repeat. */
function isWellNumbered({ trail, ver }: FoundRow): boolean {
  const numbers = words(trail).map((part) => part.slice(0, part.indexOf("=")));
  return numbers.every((number, index) => number === String(index + 1)) && ver === numbers.length;
}

function isUncertain(row: FoundRow, { uncertainInserts }: Promises): boolean {
  return tokensOf(row.trail).every((token) => uncertainInserts.has(token)) && isWellNumbered(row);
}

function lifeOf(row: FoundRow): Life {
  const tokens = tokensOf(row.trail);
  return { tokens, hops: words(row.hops), user: row.user, seeded: true, last: tokens.at(-1) ?? "" };
}

function tokensOf(trail: string): string[] {
  return words(trail).map((part) => part.slice(part.indexOf("=") + 1));
}

function words(text: string): string[] {
  return text === "" ? [] : text.split(" ");
}
