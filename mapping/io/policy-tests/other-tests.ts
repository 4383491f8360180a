/** TCP, DNS and script tests. None of them rejects. */
import { execFile } from "node:child_process";
import { randomInt } from "node:crypto";
import { connect } from "node:net";
import { join } from "node:path";
import { nameFromText, typeFromText } from "#kit";
import { rcodes } from "../../core/dns/constants.ts";
import { queryMessage } from "../../core/dns/message.ts";
import { readMessage, writeMessage } from "../../core/dns/wire.ts";
import { askOverUdp } from "../dns-exchange.ts";

/** Whether somebody takes the connection. */
export function askTcp(host: string, port: number, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (isOk: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(isOk);
    };
    const timer = setTimeout(end, timeoutMs, false);
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
  });
}

/** Whether it answers NOERROR with a record of the type. */
export async function askDns(
  address: string,
  port: number,
  text: string,
  typeName: string,
  timeoutMs: number,
): Promise<boolean> {
  const name = nameFromText(text);
  const type = typeFromText(typeName);
  if (name === undefined || type === undefined) return false;
  const id = randomInt(65_536);
  const query = writeMessage(queryMessage({ id, name, type, isRecursionDesired: true, edns: undefined }));
  if (query === undefined) return false;
  const read = (bytes: Uint8Array): boolean | undefined => {
    const message = readMessage(bytes);
    if (!message.ok || message.message.header.id !== id || !message.message.header.isResponse)
      return undefined;
    const { header, answers } = message.message;
    // A cut answer says that the records are there.
    return (
      header.rcode === rcodes.NOERROR && (header.isTruncated || answers.some((one) => one.type === type))
    );
  };
  return (await askOverUdp({ host: address, port, query, read, timeoutMs })) ?? false;
}

/** Exit status 0 of a program in the operator's directory, called with the target's address and nothing of our environment. */
export function runScript(
  directory: string,
  script: string,
  address: string,
  timeoutMs: number,
): Promise<boolean> {
  return new Promise((resolve) => {
    execFile(
      join(directory, script),
      [address],
      {
        timeout: timeoutMs,
        killSignal: "SIGKILL",
        maxBuffer: 65_536,
        env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
      },
      (error) => resolve(error === null),
    );
  });
}
