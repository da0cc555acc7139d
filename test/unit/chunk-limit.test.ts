import { expect, test } from "vitest";
import { withinChunkLimit } from "../../src/copy/chunk-limit.ts";

const never = new Promise<never>(() => {});

test("a chunk that never ends stops the job with its table's name", async () => {
  await expect(withinChunkLimit(never, "orders", 20)).rejects.toMatchObject({
    code: "E_TIMEOUT",
    retryable: true,
    message: expect.stringContaining("orders"),
  });
});

test("what a chunk returns or throws within the limit is passed on", async () => {
  const failure = new Error("the server is gone");
  await expect(withinChunkLimit(Promise.resolve(5), "orders")).resolves.toBe(5);
  await expect(withinChunkLimit(Promise.reject(failure), "orders")).rejects.toBe(failure);
});
