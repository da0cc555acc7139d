export interface Amounts {
  readonly percent: number;
  readonly rows: number;
  readonly bytes: number;
}

export interface RateReading {
  readonly rowsPerSecond: number;
  readonly bytesPerSecond: number;
  /** From the 1- and 15-minute rates: inserts slow down as the tree grows, and one sample swings (facts/peers W2). */
  readonly eta: { readonly lowSeconds: number; readonly highSeconds: number } | undefined;
}

const windowsSeconds = [60, 900] as const;

/** Exponentially weighted rates over one and fifteen minutes; plain averages until a window is full. */
export class Rates {
  #startedAt: number | undefined;
  #last: { readonly at: number; readonly amounts: Amounts } | undefined;
  #rates: { percent: number; rows: number; bytes: number }[] | undefined;

  /** `at` in ms of a clock that never goes back. */
  sample(at: number, amounts: Amounts): RateReading {
    const last = this.#last;
    this.#startedAt ??= at;
    if (last !== undefined && at > last.at) {
      const seconds = (at - last.at) / 1_000;
      const now = {
        percent: (amounts.percent - last.amounts.percent) / seconds,
        rows: (amounts.rows - last.amounts.rows) / seconds,
        bytes: (amounts.bytes - last.amounts.bytes) / seconds,
      };
      const elapsed = (at - this.#startedAt) / 1_000;
      const old = this.#rates;
      this.#rates = windowsSeconds.map((window, index) =>
        blend(old?.[index] ?? now, now, Math.max(1 - Math.exp(-seconds / window), seconds / elapsed)),
      );
    }
    if (last === undefined || at > last.at) this.#last = { at, amounts };
    const [fast] = this.#rates ?? [];
    return {
      rowsPerSecond: Math.max(0, fast?.rows ?? 0),
      bytesPerSecond: Math.max(0, fast?.bytes ?? 0),
      eta: this.#eta(amounts.percent),
    };
  }

  #eta(percent: number): RateReading["eta"] {
    // Before one percent the rates say nothing (gh-ost has the same rule).
    if (this.#rates === undefined || percent < 1 || percent >= 100) return undefined;
    const seconds = this.#rates
      .filter((rate) => rate.percent > 0)
      .map((rate) => (100 - percent) / rate.percent);
    if (seconds.length === 0) return undefined;
    return { lowSeconds: Math.min(...seconds), highSeconds: Math.max(...seconds) };
  }
}

function blend(
  old: { percent: number; rows: number; bytes: number },
  now: { percent: number; rows: number; bytes: number },
  weight: number,
): { percent: number; rows: number; bytes: number } {
  const mix = (a: number, b: number): number => a + (b - a) * weight;
  return {
    percent: mix(old.percent, now.percent),
    rows: mix(old.rows, now.rows),
    bytes: mix(old.bytes, now.bytes),
  };
}
