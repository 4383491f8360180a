import { IsochroneError, type IsochroneErrorDetail } from "#kit";

/** What control said besides the message. */
export interface ControlErrorDetail extends IsochroneErrorDetail {
  /** HTTP status; absent when there was no answer. */
  readonly status?: number;
  /** Where in the sent document the fault is, as control quotes it. */
  readonly path?: string;
  readonly value?: string;
  readonly expected?: string;
  /** With code "conflict": the version that is there now, null for none. */
  readonly presentVersion?: number | null;
}

/**
 * A request to control that did not succeed. Codes: "control-unreachable" (no answer; `retry` safe), "bad-answer",
 * "unauthorised", "not-found", "conflict", "fenced" (of another publisher than the elected one), "not-newer", "refused" (a schema or a law, with path, value and expected), "too-large",
 * "overloaded", "bad-request", and of a server's certificate the reasons of `core/node-register.ts`.
 */
export class ControlError extends IsochroneError {
  readonly status: number | undefined;
  readonly path: string | undefined;
  readonly value: string | undefined;
  readonly expected: string | undefined;
  readonly presentVersion: number | null | undefined;

  constructor(message: string, detail: ControlErrorDetail) {
    super(message, detail);
    this.name = "ControlError";
    this.status = detail.status;
    this.path = detail.path;
    this.value = detail.value;
    this.expected = detail.expected;
    this.presentVersion = detail.presentVersion;
  }
}
