/**
 * Figures for people: plan texts, progress, reports. Always with a unit, never more digits than anyone reads, and
 * never a better picture than the truth (percent and rates are rounded down).
 */

/** `61 000` */
export function formatCount(count: number): string {
  return String(Math.trunc(count)).replace(/\B(?=(\d{3})+(?!\d))/g, " ");
}

const byteUnits = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** `842 GB`, `1.37 TB`: three digits, decimal units, rounded down. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes) || bytes < 0) return "unknown";
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < byteUnits.length - 1) {
    value /= 1000;
    unit++;
  }
  const decimals = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const scale = 10 ** decimals;
  // A shade is added, since 4.35 * 100 is 434.99….
  return `${(Math.floor(value * scale + 1e-6) / scale).toFixed(decimals)} ${byteUnits[unit]}`;
}

/** `118 MB/s` */
export function formatRate(bytesPerSecond: number): string {
  return bytesPerSecond === Number.POSITIVE_INFINITY ? "unlimited" : `${formatBytes(bytesPerSecond)}/s`;
}

/** `61.2 %`. Above 99.9 only when the work is known to be done: "100 %" that goes on is a lie (CLI.md, W1). */
export function formatPercent(percent: number, done: boolean): string {
  if (done) return "100 %";
  const value = Number.isFinite(percent) ? Math.min(Math.max(percent, 0), 99.9) : 0;
  return `${(Math.floor(value * 10 + 1e-6) / 10).toFixed(1)} %`;
}

/** `480 ms`, `1.4 s`, `12 s`, `4m10s`, `1h05`, `2d03h` */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return "unknown";
  const whole = Math.max(0, Math.round(ms));
  if (whole < 1000) return `${whole} ms`;
  if (whole < 9950) return `${(whole / 1000).toFixed(1)} s`;
  const seconds = Math.round(whole / 1000);
  if (seconds < 60) return `${seconds} s`;
  return longDuration(seconds);
}

/** `1h05–1h20`, `40s–55s`, `12m`: both ends of an estimate, coarser the longer it is. */
export function formatEta(
  eta: { readonly lowSeconds: number; readonly highSeconds: number } | undefined,
): string {
  if (eta === undefined || !Number.isFinite(eta.lowSeconds) || !Number.isFinite(eta.highSeconds))
    return "unknown";
  const [low, high] = [Math.min(eta.lowSeconds, eta.highSeconds), Math.max(eta.lowSeconds, eta.highSeconds)];
  // Nobody plans a year ahead by the rate of the last 15 minutes.
  if (high > 366 * 86_400) return "unknown";
  const [from, to] = [etaEnd(low), etaEnd(high)];
  return from === to ? from : `${from}–${to}`;
}

function etaEnd(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.ceil(whole / 60)}m`;
  return longDuration(Math.ceil(whole / 60) * 60);
}

function longDuration(seconds: number): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const days = Math.floor(seconds / 86_400);
  const hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  if (days > 0) return `${days}d${two(hours)}h`;
  if (hours > 0) return `${hours}h${two(minutes)}`;
  return `${minutes}m${two(seconds % 60)}s`;
}

/** `1 table`, `3 tables` */
export function formatPlural(count: number, word: string): string {
  return `${formatCount(count)} ${word}${count === 1 ? "" : "s"}`;
}
