import { z } from "zod";

/** Bounds and slices as the control store keeps them. */
export const boundSchema = z.union([
  z.strictObject({ at: z.literal("MIN") }),
  z.strictObject({ at: z.literal("MAX") }),
  z.strictObject({ at: z.literal("KEY"), key: z.string() }),
]);

export const sliceSchema = z.array(z.strictObject({ from: boundSchema, to: boundSchema }));
