/**
 * A bulk transfer over one TCP connection, as two programs for two hosts of a network:
 *
 *     node bulk.ts serve PORT             prints "ready"; sends pattern bytes to whoever connects, until it closes
 *     node bulk.ts fetch ADDRESS PORT SECONDS   prints {"bytes", "seconds", "wrong"} of what arrived in that time
 *
 * The time runs from the connection's start, so slow start is in it. `wrong` counts bytes that are not the pattern's.
 */
import { connect, createServer } from "node:net";

/** A period that divides no segment size, so that a lost or doubled segment would show. */
const PATTERN = Buffer.from(
  Uint8Array.from({ length: 65_521 }, (_, index) => (index * 31 + (index >> 8)) & 0xff),
);

function serve(port: number): void {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    const send = (): void => {
      while (!socket.destroyed && socket.write(PATTERN));
    };
    socket.on("drain", send);
    send();
  });
  server.listen(port, "0.0.0.0", () => process.stdout.write("ready\n"));
}

function fetch(address: string, port: number, seconds: number): void {
  const startMs = performance.now();
  let bytes = 0;
  let wrong = 0;
  const socket = connect({ host: address, port });
  socket.on("data", (chunk: Buffer) => {
    for (let at = 0; at < chunk.length; ) {
      const offset = (bytes + at) % PATTERN.length;
      const length = Math.min(chunk.length - at, PATTERN.length - offset);
      if (chunk.compare(PATTERN, offset, offset + length, at, at + length) !== 0) wrong += length;
      at += length;
    }
    bytes += chunk.length;
  });
  const finish = (): void => {
    process.stdout.write(
      `${JSON.stringify({ bytes, seconds: (performance.now() - startMs) / 1000, wrong })}\n`,
    );
    process.exit();
  };
  socket.on("error", finish);
  setTimeout(finish, seconds * 1000);
}

const [verb, ...rest] = process.argv.slice(2);
if (verb === "serve") serve(Number(rest[0]));
else if (verb === "fetch") fetch(String(rest[0]), Number(rest[1]), Number(rest[2]));
else process.exitCode = 2;
