/** A request that is answered with an error, as {@link ErrorAnswer}. The message is for the person who asked. */
import type { DraftFault, ErrorAnswer } from "../core/wire.ts";

export interface FaultDetail {
  readonly faults?: readonly DraftFault[];
  readonly presentVersion?: number;
  readonly retryAfterSeconds?: number;
}

export class Fault extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: FaultDetail;
  constructor(status: number, code: string, message: string, detail: FaultDetail = {}) {
    super(message);
    this.name = "Fault";
    this.status = status;
    this.code = code;
    this.detail = detail;
  }

  answer(): ErrorAnswer {
    return { error: { code: this.code, message: this.message, ...this.detail } };
  }
}

/** One answer for what does not exist and for what belongs to somebody else. */
export function noSuchProperty(propertyId: string): Fault {
  return new Fault(
    404,
    "not-found",
    `There is no property ${JSON.stringify(propertyId)}; the list is at /api/v1/properties`,
  );
}
