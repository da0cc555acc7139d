import type { KeyType, KeyValue } from "../../model/key.ts";

/**
 * Shard keys as whole numbers and back, so that a middle between two keys can be named without asking a server.
 * Invariant: the order of the numbers is the order of the keys. Going to a number may round down (fractions of a
 * second, bytes past the 16th), so a middle is a good place to cut, never a statement about a row.
 */
export function keyToNumber(type: KeyType, scale: number, key: KeyValue): bigint {
  switch (type) {
    case "integer":
      return BigInt(key);
    case "decimal": {
      const [whole = "0", fraction = ""] = key.split(".");
      return BigInt(whole + fraction.slice(0, scale).padEnd(scale, "0"));
    }
    case "binary":
      return BigInt(`0x0${key.slice(2, 2 + 2 * bytes).padEnd(2 * bytes, "0")}`);
    case "temporal": {
      const [date = "", time = "00:00:00"] = key.split(" ");
      const ms = Date.parse(`${date}T${time.slice(0, 8)}Z`);
      // A zero date lies below every real one.
      return Number.isNaN(ms) ? -62_167_219_201n : BigInt(ms / 1000);
    }
  }
}

const bytes = 16;

/** `dateOnly` for DATE columns, whose keys have no time of day. */
export function numberToKey(type: KeyType, scale: number, dateOnly: boolean, number: bigint): KeyValue {
  switch (type) {
    case "integer":
      return number.toString();
    case "decimal": {
      if (scale === 0) return number.toString();
      const digits = (number < 0n ? -number : number).toString().padStart(scale + 1, "0");
      return `${number < 0n ? "-" : ""}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
    }
    case "binary":
      return `0x${number
        .toString(16)
        .padStart(2 * bytes, "0")
        .replace(/(00)+$/, "")}`;
    case "temporal": {
      const text = new Date(Number(number) * 1000).toISOString();
      return dateOnly ? text.slice(0, 10) : `${text.slice(0, 10)} ${text.slice(11, 19)}`;
    }
  }
}
