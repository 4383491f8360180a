/** TCP, DNS and script tests. None of them rejects. */
import { execFile } from "node:child_process";
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, isIPv6 } from "node:net";
import { join } from "node:path";
import { nameFromText, typeFromText } from "#kit";
import { dnsAnswerIsWell, dnsQuestion } from "../../core/target-tests/dns-question.ts";

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

/** Whether it answers NOERROR with a record of the type; from a port of its own, to which nobody else is heard. */
export function askDns(
  address: string,
  port: number,
  text: string,
  typeName: string,
  timeoutMs: number,
): Promise<boolean> {
  const name = nameFromText(text);
  const type = typeFromText(typeName);
  if (name === undefined || type === undefined) return Promise.resolve(false);
  const id = randomInt(65_536);
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
      const isWell = dnsAnswerIsWell(bytes, { id, name, type });
      if (isWell !== undefined) end(isWell);
    });
    socket.connect(port, address, () => socket.send(dnsQuestion(id, name, type)));
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
