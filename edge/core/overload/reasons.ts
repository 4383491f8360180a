/** Why a request was shed; one closed list for Cache-Status `detail`, access record and metric. */
export const shedReasons = [
  /** The origin's queue holds as many requests as it may, or this property's part of it does. */
  "queue-full",
  /** It would have waited, or has waited, for longer than a request may. */
  "queue-delay",
  /** As many requests to this origin as there may be; or one in the background that found no spare room. */
  "origin-limit",
  /** As many forwarded requests of this property as there may be. */
  "property-limit",
  /** As many forwarded requests in this process as there may be. */
  "server-limit",
  /** The process itself is late for all that it does, and by its own work (loop-delay.ts). */
  "server-busy",
] as const;

export type ShedReason = (typeof shedReasons)[number];
