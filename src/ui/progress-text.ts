import cliProgress from "cli-progress";
import type { PhaseName, Progress, TableProgress } from "../job/events.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatEta,
  formatPercent,
  formatPlural,
  formatRate,
} from "./format.ts";

/**
 * What one line says about each phase, the same in the live screen and in plain lines. Pure.
 */
export function phaseText(phase: PhaseName, progress: Progress, at: "running" | "done" | "stopped"): string {
  switch (phase) {
    case "copy":
      return copyText(progress.copy, at);
    case "tail":
      return tailText(progress.tail);
    case "verify":
      return verifyText(progress.verify, at === "done");
    case "prepare":
    case "cutover":
      return "";
  }
}

function copyText(copy: Progress["copy"], at: "running" | "done" | "stopped"): string {
  const percent = formatPercent(copy.percent, at === "done");
  const parts = [percent, formatBytes(copy.bytes), `${formatCount(copy.rows)} rows`];
  if (at === "running") parts.push(formatRate(copy.bytesPerSecond), `ETA ${formatEta(copy.eta)}`);
  if (at === "running" && copy.throttledBy !== undefined) parts.push(`throttled (${copy.throttledBy})`);
  return parts.join("  ");
}

/** A source that says nothing for this long deserves a word: heartbeats come more often. */
const silenceMs = 10_000;

function tailText(tail: Progress["tail"]): string {
  const parts = [`lag ${formatDuration(tail.lagMs)}`, `dirty ${formatCount(tail.dirtyKeys)}`];
  if (tail.checkpointAgeMs !== undefined)
    parts.push(`checkpoint ${formatDuration(tail.checkpointAgeMs)} ago`);
  if (tail.livenessMs > silenceMs) parts.push(`source silent for ${formatDuration(tail.livenessMs)}`);
  return parts.join(" · ");
}

function verifyText(verify: Progress["verify"], done: boolean): string {
  const percent = formatPercent(verify.percent, done);
  return `${percent} of copied  ${formatCount(verify.rows)} rows, ${formatCount(verify.mismatches)} differ`;
}

/** The most tables that are drawn at once: a screen has 24 lines, and a keyspace may have hundreds of tables. */
const maxBars = 8;

/** Bars for the tables in flight, and one line that counts the others. */
export function tableBars(tables: readonly TableProgress[], columns: number): string[] {
  const inFlight = tables.filter(({ percent }) => percent > 0 && percent < 100);
  const shown = inFlight.slice(0, maxBars);
  const nameWidth = Math.min(
    32,
    Math.floor(columns / 3),
    Math.max(0, ...shown.map(({ table }) => table.length)),
  );
  // Indent, gaps and percent take 18 columns, the rows 22; the bar gets what is left, within reason.
  const withRows = columns >= 76;
  const barSize = Math.max(6, Math.min(30, columns - nameWidth - (withRows ? 40 : 18)));
  const lines = shown.map(({ table, percent, rows }) => {
    const name = table.length > nameWidth ? `${table.slice(0, nameWidth - 1)}…` : table.padEnd(nameWidth);
    const figures = `${formatPercent(percent, false).padStart(6)}${withRows ? `  ${formatCount(rows)} rows` : ""}`;
    return `${name}  ${bar(percent / 100, barSize)} ${figures}`;
  });
  const done = tables.filter(({ percent }) => percent >= 100).length;
  const hidden = inFlight.length - shown.length;
  const waiting = tables.length - done - inFlight.length;
  const rest = [
    hidden > 0 ? `${hidden} more in flight` : "",
    done > 0 ? `${formatPlural(done, "table")} done` : "",
    waiting > 0 ? `${waiting} waiting` : "",
  ].filter((part) => part !== "");
  return rest.length === 0 || tables.length === 1 ? lines : [...lines, rest.join(", ")];
}

function bar(fraction: number, barsize: number): string {
  return cliProgress.Format.BarFormat(Math.min(Math.max(fraction, 0), 1), {
    barsize,
    barGlue: "",
    barCompleteString: "█".repeat(barsize),
    barIncompleteString: "░".repeat(barsize),
  });
}
