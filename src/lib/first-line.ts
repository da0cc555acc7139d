/** The first line of an error, for lists and notes; the whole is told once, where the run ends. */
export function firstLine(error: unknown): string {
  if (error instanceof DOMException && error.name === "TimeoutError") return "the time budget ran out";
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n")[0] ?? "";
}
