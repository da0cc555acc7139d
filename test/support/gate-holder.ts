/** A tool's process that closes the gate, says so, and hangs: to be killed. Argument: where the server is, as JSON. */
import { close, joinJob } from "./gate-spec.ts";

const address = JSON.parse(process.argv[2] ?? "") as Parameters<typeof joinJob>[0];
const runner = await joinJob(address, { storeId: "store-1", job: "split-1", token: 7 });
await close(runner.gates);
process.stdout.write("held\n");
setInterval(() => undefined, 1000);
