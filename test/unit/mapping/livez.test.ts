/** Probes of edge servers: what is an answer to /livez, and what becomes of the connection that it came over. */
import { type Duplex, duplexPair } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { LivezConnection } from "#mapping";
import { parseLivezAnswer } from "../../../mapping/core/livez-answer.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

describe("an answer to /livez", () => {
  it.each([
    ["whole", OK, { isOk: true, mayStay: true }],
    [
      "another spelling",
      OK.replace("Content-Length: 3", "X: 1\r\ncontent-length:3 "),
      { isOk: true, mayStay: true },
    ],
    ["part of the head", OK.slice(0, 30), undefined],
    ["part of the content", OK.slice(0, -1), undefined],
    ["a status that refuses", OK.replace("200", "503"), { isOk: false, mayStay: true }],
    ["more than was asked for", `${OK}HTTP`, { isOk: true, mayStay: false }],
    ["the last one", OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"), { isOk: true, mayStay: false }],
    ["HTTP/1.0", OK.replace("1.1", "1.0"), { isOk: true, mayStay: false }],
    ["chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", { isOk: true, mayStay: false }],
    [
      "two ways to tell the length",
      OK.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"),
      { isOk: true, mayStay: false },
    ],
    ["another protocol", "SSH-2.0-OpenSSH_10.0\r\n\r\n", { isOk: false, mayStay: false }],
    ["an interim answer", "HTTP/1.1 103 Early Hints\r\n\r\n", { isOk: false, mayStay: false }],
    ["a head without end", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(8_192)}`, { isOk: false, mayStay: false }],
    ["content without end", OK.replace("3", "9999") + "x".repeat(8_192), { isOk: false, mayStay: false }],
  ])("%s", (_, text, expected) => {
    expect(parseLivezAnswer(text)).toEqual(expected);
  });
});

describe("a connection that asks for /livez", () => {
  /** Opened connections, each by the server's end. */
  function prepared(isRefused = false) {
    const opened: Duplex[] = [];
    const said: boolean[] = [];
    const connection = new LivezConnection({ address: "2001:db8::1", port: 8080 }, async () => {
      if (isRefused) throw new Error("refused");
      const [ours, theirs] = duplexPair();
      opened.push(theirs);
      return ours;
    });
    const ask = (): Promise<void> => {
      connection.ask(1_000, (isOk) => said.push(isOk));
      return settled();
    };
    return { opened, said, connection, ask };
  }
  async function settled(): Promise<void> {
    for (let turns = 0; turns < 4; turns++) await turn();
  }
  const heard = (stream: Duplex | undefined): string => String(stream?.read() ?? "");

  it("asks again over the same one, with one request each", async () => {
    const { opened, said, ask } = prepared();
    for (let time = 0; time < 3; time++) {
      await ask();
      expect(heard(opened[0])).toBe("GET /livez HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n");
      // In pieces: nothing is said before the last one.
      opened[0]?.write(OK.slice(0, 20));
      await settled();
      expect(said.length).toBe(time);
      opened[0]?.write(OK.slice(20));
      await settled();
    }
    expect(said).toEqual([true, true, true]);
    expect(opened.length).toBe(1);
  });

  it.each([
    ["the server ends it", (end: Duplex) => void end.end()],
    ["something comes that nobody asked for", (end: Duplex) => void end.write(OK)],
  ])("opens another one after %s", async (_, end) => {
    const { opened, said, ask } = prepared();
    await ask();
    opened[0]?.write(OK);
    await settled();
    end(opened[0] as Duplex);
    await settled();
    expect(said).toEqual([true]);
    await ask();
    opened[1]?.write(OK);
    await settled();
    expect(said).toEqual([true, true]);
    expect(opened.length).toBe(2);
  });

  it("says no when it is refused, and when it ends before the answer", async () => {
    const refused = prepared(true);
    await refused.ask();
    expect(refused.said).toEqual([false]);
    const { opened, said, ask } = prepared();
    await ask();
    opened[0]?.write(OK.slice(0, 20));
    opened[0]?.end();
    await settled();
    expect(said).toEqual([false]);
  });

  it("gives up a server that is silent when it is to ask again, and never hears what that says later", async () => {
    const { opened, said, ask } = prepared();
    await ask();
    await ask();
    expect(opened.length).toBe(2);
    opened[0]?.write(OK);
    await settled();
    expect(said).toEqual([]);
    opened[1]?.write(OK.replace("200", "503"));
    await settled();
    expect(said).toEqual([false]);
  });

  it("tells nobody once it is closed", async () => {
    const { opened, said, connection, ask } = prepared();
    await ask();
    connection.close();
    opened[0]?.write(OK);
    await settled();
    expect(said).toEqual([]);
  });
});
