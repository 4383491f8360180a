/** Where a property's content comes from. */
import { hostname } from "../ids.ts";
import { integer, object, oneOf, optional, type Parsed } from "../schema.ts";

export const originTarget = object({
  scheme: oneOf(["http", "https"]),
  /** Host name or address to connect to. */
  host: hostname(),
  port: integer({ min: 1, max: 65_535 }),
  /** Host header and TLS server name to send; the property's requested host name when absent. */
  hostHeader: optional(hostname()),
});
export type OriginTarget = Parsed<typeof originTarget>;
