/**
 * The secrets that this process has read, so that no message, log or JSON document shows one (facts/hard-cases, X05).
 * Whoever reads a secret adds it here at once; whoever prints passes its text through `redact` last.
 * Invariant: a secret that was added never appears in redacted text, neither plain nor as JSON or a URL writes it.
 */
export class Secrets {
  readonly #forms = new Set<string>();

  add(secret: string): void {
    // An empty secret would match everywhere.
    if (secret === "") return;
    this.#forms.add(secret);
    this.#forms.add(JSON.stringify(secret).slice(1, -1));
    this.#forms.add(encodeURIComponent(secret));
  }

  /** For messages: every secret goes, however short, even where it hits an innocent word. */
  redact(text: string): string {
    return this.#replace(text, 1);
  }

  /**
   * For result data, where a mangled value is a wrong answer: a secret shorter than 8 letters may equal a shard or
   * column name by chance, so only longer ones are replaced. Keys stay as they are.
   */
  redactData(value: unknown): unknown {
    if (typeof value === "string") return this.#replace(value, 8);
    if (Array.isArray(value)) return value.map((item) => this.redactData(item));
    if (value === null || typeof value !== "object" || "toJSON" in value) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.redactData(item)]));
  }

  #replace(text: string, minLength: number): string {
    // Longest first: a secret that contains another one must not leave its other half behind.
    const forms = [...this.#forms].filter((form) => form.length >= minLength);
    return forms
      .toSorted((a, b) => b.length - a.length)
      .reduce((result, form) => result.replaceAll(form, "[redacted]"), text);
  }
}
