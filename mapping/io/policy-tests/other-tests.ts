/** TCP, DNS and script tests. None of them rejects. */
import { execFile } from "node:child_process";
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, isIPv6 } from "node:net";
import { join } from "node:path";
import { dnsClasses, dnsOpcodes, rcodes } from "../../core/dns/constants.ts";
import { nameFromText, typeFromText } from "#kit";
import { readMessage, writeMessage } from "../../core/dns/wire.ts";

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
export function askDns(
  address: string,
  port: number,
  name: string,
  type: string,
  timeoutMs: number,
): Promise<boolean> {
  const domain = nameFromText(name);
  const number = typeFromText(type);
  const id = randomInt(65_536);
  const query =
    domain === undefined || number === undefined
      ? undefined
      : writeMessage({
          header: {
            id,
            isResponse: false,
            opcode: dnsOpcodes.QUERY,
            isAuthoritative: false,
            isTruncated: false,
            isRecursionDesired: true,
            isRecursionAvailable: false,
            isAuthenticData: false,
            isCheckingDisabled: false,
            rcode: rcodes.NOERROR,
          },
          questions: [{ name: domain, type: number, class: dnsClasses.IN }],
          answers: [],
          authorities: [],
          additionals: [],
          edns: undefined,
        });
  if (query === undefined) return Promise.resolve(false);
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
    const end = (isOk: boolean): void => {
      clearTimeout(timer);
      socket.close();
      resolve(isOk);
    };
    const timer = setTimeout(end, timeoutMs, false);
    socket.once("error", () => end(false));
    socket.on("message", (bytes) => {
      const read = readMessage(bytes);
      if (!read.ok || read.message.header.id !== id || !read.message.header.isResponse) return;
      const { header, answers } = read.message;
      // A cut answer says that the records are there.
      end(
        header.rcode === rcodes.NOERROR && (header.isTruncated || answers.some((one) => one.type === number)),
      );
    });
    socket.connect(port, address, () => socket.send(query));
  });
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
