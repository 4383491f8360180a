/** HTTP and HTTPS tests, and loads: one request to an address, bounded in time and content, that follows nobody elsewhere. */
import type { IncomingMessage } from "node:http";
import { request as requestHttps } from "node:https";
import { http } from "#kit/io";

/** Of the content that is looked at; more is not read. */
const BODY_BYTES_MAX = 65_536;

export interface HttpQuestion {
  readonly address: string;
  readonly port: number | undefined;
  readonly isHttps: boolean;
  /** Host field, and the name that the certificate must be good for. */
  readonly host: string;
  readonly path: string;
  readonly timeoutMs: number;
}

export interface HttpSaid {
  readonly status: number;
  /** At most 64 KiB of it. */
  readonly body: string;
}

/** Undefined: no answer in time, or none that can be trusted. Never rejects. */
export function askHttp(question: HttpQuestion): Promise<HttpSaid | undefined> {
  const { address, isHttps, host, path, timeoutMs } = question;
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const port = question.port ?? (isHttps ? 443 : 80);
    const options = {
      host: address,
      port,
      path,
      method: "GET",
      signal,
      agent: false,
      maxHeaderSize: 16_384,
      headers: {
        host: port === (isHttps ? 443 : 80) ? host : `${host}:${port}`,
        "user-agent": "isochrone-test",
      },
    } as const;
    const take = (response: IncomingMessage): void => {
      const pieces: Buffer[] = [];
      let bytes = 0;
      const done = (): void => {
        response.destroy();
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces).toString("utf8") });
      };
      response.on("data", (piece: Buffer) => {
        pieces.push(piece.subarray(0, BODY_BYTES_MAX - bytes));
        bytes += piece.length;
        if (bytes >= BODY_BYTES_MAX) done();
      });
      response.on("end", done);
      // Cut off: what was read may lack the end.
      response.on("error", () => resolve(undefined));
    };
    const asked = isHttps
      ? requestHttps({ ...options, servername: host, rejectUnauthorized: true }, take)
      : http.request(options, take);
    asked.on("error", () => resolve(undefined));
    asked.end();
  });
}
