import type { KeyId } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";

/** One key whose row is not the same on both sides. Row values are never shown: keys and digests only. */
export interface Mismatch {
  readonly table: string;
  readonly key: KeyId;
  /** The key as people read it. */
  readonly shown: string;
  readonly kind: "missing at target" | "only at target" | "different";
  readonly sourceHash: string | undefined;
  readonly targetHash: string | undefined;
}

/** The flip is refused while one exists. Carries the full list; the message shows its head. */
export class MismatchError extends ShardliftError {
  override readonly name = "MismatchError";
  readonly mismatches: readonly Mismatch[];

  constructor(mismatches: readonly Mismatch[], source: string, target: string) {
    const shown = mismatches
      .slice(0, 20)
      .map(
        (m) =>
          `  ${m.table}: ${m.shown} is ${m.kind} (${source} ${m.sourceHash ?? "-"}, ${target} ${m.targetHash ?? "-"})`,
      );
    const rest = mismatches.length > 20 ? [`  … and ${mismatches.length - 20} more (all in --json)`] : [];
    super(
      "E_MISMATCH",
      [`${mismatches.length} keys differ between ${source} and ${target}:`, ...shown, ...rest]
        .join("\n")
        .replace(/^1 keys differ/, "1 key differs"),
    );
    this.mismatches = mismatches;
  }
}

/** Compares two lists of row hashes by key. Pure. */
export function differingKeys(
  source: ReadonlyMap<KeyId, string>,
  target: ReadonlyMap<KeyId, string>,
): { readonly key: KeyId; readonly kind: Mismatch["kind"] }[] {
  const differing: { key: KeyId; kind: Mismatch["kind"] }[] = [];
  for (const [key, hash] of source) {
    const other = target.get(key);
    if (other === undefined) differing.push({ key, kind: "missing at target" });
    else if (other !== hash) differing.push({ key, kind: "different" });
  }
  for (const key of target.keys()) if (!source.has(key)) differing.push({ key, kind: "only at target" });
  return differing;
}
