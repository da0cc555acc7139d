/**
 * Durations, sizes and rates as people write them. One grammar for the configuration, the environment and the flags.
 * Every parser returns undefined for what it does not understand: the caller knows the place and says what is accepted.
 */

/** What the parsers accept, as patterns for the JSON Schema too, so that an editor refuses what the tool refuses. */
export const durationPattern = /^(\d+(\.\d+)?(ms|s|m|h|d))+$/;
const sizePattern = /^\d+(\.\d+)?\s?([kMGT]i?)?B$/;
export const ratePattern = /^(unlimited|\d+(\.\d+)?\s?([kMGT]i?)?B\/s)$/;

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds: `500ms`, `2s`, `1.5h`, `1h30m`. A number without a unit is refused: nobody can know what it means. */
export function parseDuration(text: string): number | undefined {
  if (!durationPattern.test(text)) return undefined;
  let ms = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    ms += Number(amount) * (durationUnits[unit ?? ""] ?? Number.NaN);
  }
  return Number.isSafeInteger(Math.round(ms)) ? Math.round(ms) : undefined;
}

const sizeUnits: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** Bytes: `512B`, `20MB` (decimal), `20MiB` (binary). Small `b` is refused: it could mean bits. */
export function parseSize(text: string): number | undefined {
  if (!sizePattern.test(text)) return undefined;
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\s?([kMGT]i?)?B$/.exec(text) ?? [];
  const bytes = Math.round(Number(amount) * (sizeUnits[unit ?? ""] ?? Number.NaN));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Bytes per second: `20MB/s`; `unlimited` is Infinity. Zero is refused, since nothing would ever move. */
export function parseRate(text: string): number | undefined {
  if (text === "unlimited") return Number.POSITIVE_INFINITY;
  if (!ratePattern.test(text)) return undefined;
  const bytes = parseSize(text.slice(0, -"/s".length));
  return bytes === 0 ? undefined : bytes;
}

const durationNames = Object.entries(durationUnits).toReversed();

/** The shortest text that `parseDuration` reads back to the same value: `500ms`, `24h`, `1h30m`. */
export function durationText(ms: number): string {
  if (ms === 0) return "0s";
  let rest = ms;
  let text = "";
  for (const [unit, size] of durationNames) {
    const count = Math.floor(rest / size);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * size;
  }
  return text;
}
