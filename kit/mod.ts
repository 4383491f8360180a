/** The kit's face: words and small pure tools that every room uses. No clock, no randomness, no I/O. */
export * from "./documents/mod.ts";
export * from "./errors.ts";
export * from "./geo.ts";
export * from "./hash.ts";
export * from "./ids.ts";
export * from "./ip.ts";
export * from "./liveness.ts";
export * from "./prefix-table.ts";
export * from "./quantile.ts";
export * from "./random.ts";
export * from "./rendezvous.ts";
export * from "./schema.ts";
export * from "./time.ts";
export * from "./units.ts";
