/** An origin: answers with what the catalog holds, validates by entity tag, and has outages. */
import type { Field } from "../../edge/core/headers.ts";
import { fieldLines } from "../../edge/core/headers.ts";
import { formatHttpDate } from "../../edge/core/http-date.ts";
import { epochOf, type Host, type Program } from "./host.ts";
import { errorAnswer, type HttpAnswer, type HttpRequest } from "./messages.ts";
import type { Stage } from "./stage.ts";

/** From the request to the answer, ms. */
const SERVICE_MS = 4;

export class Origin implements Program {
  readonly host: Host;
  readonly #stage: Stage;
  /** Answers 503 while set. */
  isFailing = false;

  constructor(stage: Stage, host: Host) {
    this.#stage = stage;
    this.host = host;
  }

  start(): void {}

  request({ head }: HttpRequest, respond: (answer: HttpAnswer) => void): void {
    this.host.after(SERVICE_MS, "origin-answer", () => respond(this.#answer(head)));
  }

  /** A check of its health: the status that it answers with. */
  check(respond: (status: number) => void): void {
    this.host.after(SERVICE_MS, "origin-answer", () => respond(this.isFailing ? 503 : 200));
  }

  #answer(head: HttpRequest["head"]): HttpAnswer {
    const { statistics, catalog } = this.#stage;
    if (this.isFailing) {
      statistics.count("origin", "503");
      return errorAnswer(503);
    }
    const object = catalog.find(head.host, head.target);
    if (object === undefined) {
      statistics.count("origin", "404");
      return errorAnswer(404);
    }
    const { now } = this.host;
    const etag = `"v${object.version}"`;
    const fields: Field[] = [
      ["Date", formatHttpDate(epochOf(now))],
      ["ETag", etag],
      ["Surrogate-Key", object.tag],
    ];
    if (object.cacheControl !== undefined) fields.push(["Cache-Control", object.cacheControl]);
    const content = { object, version: object.version, vouchedAt: now };
    const isSame = fieldLines(head.fields, "if-none-match").includes(etag);
    statistics.count("origin", isSame ? "304" : "200");
    return { status: isSame ? 304 : 200, fields, content, generation: undefined, staleness: "none" };
  }
}
