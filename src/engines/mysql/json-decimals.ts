import { invariant } from "../../errors/error.ts";

/**
 * Finds the numbers in MySQL's JSON text that are stored as DECIMAL and would come back as a DOUBLE of another text:
 * `2.50` → 2.5, `12345678901234567890.12` → 1.2345678901234567e19. JSON_OBJECT('price', price) makes such values;
 * parsing text never does (hard-cases, D18). The writer puts them right with JSON_SET.
 *
 * Invariant: a document without a finding is printed by MySQL, after it was parsed again, with the same bytes
 * (tested against the server). Kinds that print alike (DECIMAL 2.5, a date in a string) are not told apart.
 */
export interface JsonDecimal {
  /** MySQL's path, `$."price"` or `$[3]`. */
  readonly path: string;
  /** The number's text, plain digits. */
  readonly text: string;
}

/** A quick look at the bytes: false for nearly every document. Part of the copy's inner loop. */
export function mayHoldDecimals(json: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += 1) {
    const byte = json[at] ?? 0;
    if (byte === quote) {
      at = endOfString(json, at + 1, end);
    } else if (byte === minus || (byte >= zero && byte <= nine)) {
      const to = endOfNumber(json, at, end);
      // Fewer digits than a DOUBLE keeps, and no trailing zero: the usual case.
      if (to - at > 15 || (json[to - 1] === zero && to - at > 3)) {
        if (isLostDecimal(json.toString("latin1", at, to))) return true;
      }
      at = to - 1;
    }
  }
  return false;
}

/** Whether a number of MySQL's JSON text changes its text when it is parsed. */
export function isLostDecimal(number: string): boolean {
  // Only a DOUBLE is printed with an exponent.
  if (/e/i.test(number)) return false;
  const [whole = "", fraction] = number.replace("-", "").split(".");
  if (fraction === undefined) {
    const value = BigInt(number);
    return value > 18_446_744_073_709_551_615n || value < -9_223_372_036_854_775_808n;
  }
  // A DOUBLE without a fraction is printed as `5.0` up to 15 digits, and above with an exponent.
  if (fraction === "0") return whole.length > 15;
  if (fraction.endsWith("0")) return true;
  // 1e-15 is still printed plainly, 1e-16 is not (measured, 9.7).
  if (whole === "0" && /^0{15}/.test(fraction)) return true;
  return significantDigits(String(Number(number))) !== significantDigits(number);
}

function significantDigits(number: string): string {
  const [mantissa = ""] = number.toLowerCase().split("e");
  return mantissa.replace(/^-/, "").replace(".", "").replace(/^0+/, "").replace(/0+$/, "");
}

/** All lost decimals of a document, with their paths. */
export function lostDecimals(json: string): JsonDecimal[] {
  const found: JsonDecimal[] = [];
  const end = walk(json, 0, "$", found);
  invariant(end === json.length, "the server's JSON text is not JSON");
  return found;
}

/** Reads one value at `at`; returns where it ends. MySQL prints one blank after `,` and `:` and none elsewhere. */
function walk(json: string, at: number, path: string, found: JsonDecimal[]): number {
  const first = json[at];
  if (first === "{") return walkMembers(json, at + 1, path, found);
  if (first === "[") return walkElements(json, at + 1, path, found);
  if (first === '"') return stringEnd(json, at);
  const [token = ""] = /^[-+.\w]+/.exec(json.slice(at, at + 100)) ?? [];
  invariant(token !== "", "the server's JSON text is not JSON");
  if (/^[-\d]/.test(token) && isLostDecimal(token)) found.push({ path, text: token });
  return at + token.length;
}

function walkMembers(json: string, start: number, path: string, found: JsonDecimal[]): number {
  let at = start;
  while (json[at] === '"') {
    const to = stringEnd(json, at);
    // The key's own text: MySQL reads it in a path as it prints it in a document.
    const key = json.slice(at, to);
    at = walk(json, to + 2, `${path}.${key}`, found);
    if (json[at] === ",") at += 2;
  }
  invariant(json[at] === "}", "the server's JSON text is not JSON");
  return at + 1;
}

function walkElements(json: string, start: number, path: string, found: JsonDecimal[]): number {
  let at = start;
  for (let index = 0; json[at] !== "]"; index += 1) {
    at = walk(json, at, `${path}[${index}]`, found);
    if (json[at] === ",") at += 2;
    else invariant(json[at] === "]", "the server's JSON text is not JSON");
  }
  return at + 1;
}

function stringEnd(json: string, start: number): number {
  let at = start + 1;
  while (at < json.length && json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
  return at + 1;
}

const quote = 0x22;
const backslash = 0x5c;
const minus = 0x2d;
const zero = 0x30;
const nine = 0x39;

/** The place of the closing quote. */
function endOfString(json: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && json[at] !== quote) at += json[at] === backslash ? 2 : 1;
  return at;
}

function endOfNumber(json: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && numberBytes[json[at] ?? 0] === 1) at += 1;
  return at;
}

const numberBytes = new Uint8Array(256);
for (const character of "0123456789+-.eE") numberBytes[character.charCodeAt(0)] = 1;
