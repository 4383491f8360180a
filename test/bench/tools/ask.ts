/** A few requests in order to look at their answers, over clear HTTP/1.1, TLS or HTTP/2. Not a load generator. */
import { Agent, request as requestHttp } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { Agent as TlsAgent, request as requestHttps } from "node:https";
import type { AnswerHeaders } from "../peers/peer.ts";

export interface Answer {
  readonly status: number;
  readonly headers: AnswerHeaders;
  readonly bodyBytes: number;
  /** The content; empty when quiet. HTTP/1.1 only. */
  readonly content: Buffer;
}

export interface Question {
  readonly scheme: "http" | "https";
  readonly protocol: "http/1.1" | "h2";
  readonly port: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly paths: readonly string[];
  /** Answers are read and forgotten: for filling a cache with many objects. */
  readonly isQuiet: boolean;
}

const CONNECTIONS = 8;
const TIMEOUT_MS = 10_000;

/** Asks for every path. Answers in the order of the paths; none when quiet. Certificates are not verified: they are ours. */
export async function ask(question: Question): Promise<Answer[]> {
  const answers: Answer[] = [];
  const client = question.protocol === "h2" ? http2Client(question) : http1Client(question);
  try {
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let at = next++; at < question.paths.length; at = next++) {
        const answer = await client.get(question.paths[at] ?? "/");
        if (!question.isQuiet) answers[at] = answer;
      }
    };
    await Promise.all(Array.from({ length: Math.min(CONNECTIONS, question.paths.length) }, worker));
  } finally {
    client.close();
  }
  return answers;
}

interface Client {
  get(path: string): Promise<Answer>;
  close(): void;
}

function http1Client(question: Question): Client {
  const isTls = question.scheme === "https";
  const agent = isTls
    ? new TlsAgent({ keepAlive: true, maxSockets: CONNECTIONS })
    : new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const options = {
    host: "127.0.0.1",
    port: question.port,
    headers: question.headers,
    agent,
    timeout: TIMEOUT_MS,
  };
  return {
    get: (path) =>
      new Promise((resolve, reject) => {
        const request = isTls
          ? requestHttps({ ...options, path, rejectUnauthorized: false })
          : requestHttp({ ...options, path });
        request.once("error", reject);
        request.once("timeout", () => request.destroy(new Error(`No answer to ${path} in ${TIMEOUT_MS} ms`)));
        request.once("response", (response) => {
          let bodyBytes = 0;
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => {
            bodyBytes += chunk.length;
            if (!question.isQuiet) chunks.push(chunk);
          });
          response.once("error", reject);
          response.once("end", () => {
            const { statusCode: status = 0, headers } = response;
            resolve({ status, headers, bodyBytes, content: Buffer.concat(chunks) });
          });
        });
        request.end();
      }),
    close: () => agent.destroy(),
  };
}

function http2Client(question: Question): Client {
  const session = connectHttp2(`${question.scheme}://127.0.0.1:${question.port}`, {
    rejectUnauthorized: false,
  });
  return {
    get: (path) =>
      new Promise((resolve, reject) => {
        session.once("error", reject);
        const stream = session.request({ ":path": path, ...question.headers });
        let status = 0;
        let headers: AnswerHeaders = {};
        let bodyBytes = 0;
        stream.setTimeout(TIMEOUT_MS, () =>
          stream.destroy(new Error(`No answer to ${path} in ${TIMEOUT_MS} ms`)),
        );
        stream.once("response", (head) => {
          status = head[":status"] ?? 0;
          headers = head;
        });
        stream.on("data", (chunk: Buffer) => (bodyBytes += chunk.length));
        stream.once("error", reject);
        stream.once("end", () => {
          session.off("error", reject);
          resolve({ status, headers, bodyBytes, content: Buffer.alloc(0) });
        });
        stream.end();
      }),
    close: () => session.close(),
  };
}
