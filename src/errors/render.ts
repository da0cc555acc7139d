import { codes } from "./codes.ts";

/** `docs/errors.md`, made from the table of codes; a test fails when the page in the repository is another one. */
export function renderErrorsPage(): string {
  const entries = Object.entries(codes).toSorted(([, a], [, b]) => a.exit - b.exit);
  const sections = entries.map(([code, { exit, meaning, fix }]) =>
    [`## ${code}`, "", meaning, "", `- **What to do:** ${fix}`, `- **Exit code:** ${exit}`].join("\n"),
  );
  return `${[
    "# Error codes",
    "<!-- Made from src/errors/codes.ts. After a change there: npx vitest run test/unit/errors-page.test.ts -u -->",
    "Every error of shardlift ends with one of these codes, in text and in `--json` (`error.code`). The exit codes are described in [exit-codes.md](exit-codes.md).",
    ...sections,
  ].join("\n\n")}\n`;
}
