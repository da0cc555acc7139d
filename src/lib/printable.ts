/**
 * Text that came from a server, a file or a user, made harmless for a terminal: control characters (C0, DEL, C1) and
 * bidirectional overrides become visible escapes, so that a table name can not move the cursor, colour the screen or
 * hide what stands beside it (facts/hard-cases, X09). Line breaks and tabs stay.
 */
export function printable(text: string): string {
  return text.replace(
    // oxlint-disable-next-line no-control-regex
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
