#!/usr/bin/env node
// The `shardlift` command: runs what `npm run build` has put into dist/.
// Nothing newer than Node 16 may be written here, or an old Node would show a syntax error instead of the sentence.
const [major] = process.versions.node.split(".").map(Number);
if (major < 24) {
  console.error(
    `shardlift needs Node 24 or newer; this is Node ${process.versions.node} (${process.execPath})`,
  );
  process.exit(2);
}
const { main } = await import("../dist/cli/main.js");
await main(import.meta.url);
