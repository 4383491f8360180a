/**
 * Answers of a given size over TCP, as two programs for two hosts of a network:
 *
 *     node exchange.ts serve PORT                              prints "ready"; answers each line that is a number with so many bytes
 *     node exchange.ts ask ADDRESS PORT BYTES COUNT HOW        prints the times until the last byte, ms, as a JSON list
 *
 * HOW: `cold` a connection for each, its set-up included; `warm` one connection, one request after the other, the first ten not
 * counted; `idle` the same with a pause of a second before each.
 */
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

const WARM_UP = 10;
const IDLE_MS = 1_000;

function serve(port: number): void {
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    let line = "";
    socket.on("data", (chunk: Buffer) => {
      line += chunk.toString("latin1");
      for (let end = line.indexOf("\n"); end >= 0; end = line.indexOf("\n")) {
        socket.write(Buffer.alloc(Number(line.slice(0, end)), 1));
        line = line.slice(end + 1);
      }
    });
  });
  server.listen(port, "0.0.0.0", () => process.stdout.write("ready\n"));
}

async function open(address: string, port: number): Promise<Socket> {
  const socket = connect({ host: address, port, noDelay: true });
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  return socket;
}

async function askOnce(socket: Socket, bytes: number): Promise<void> {
  socket.write(`${bytes}\n`);
  let left = bytes;
  await new Promise<void>((resolve, reject) => {
    const take = (chunk: Buffer): void => {
      left -= chunk.length;
      if (left > 0) return;
      socket.off("data", take);
      socket.off("error", reject);
      resolve();
    };
    socket.on("data", take);
    socket.once("error", reject);
  });
}

async function ask(address: string, port: number, bytes: number, count: number, how: string): Promise<void> {
  const times: number[] = [];
  const timed = async (work: () => Promise<void>): Promise<void> => {
    const startMs = performance.now();
    await work();
    times.push(performance.now() - startMs);
  };
  if (how === "cold") {
    for (let n = 0; n < count; n++)
      await timed(async () => {
        const socket = await open(address, port);
        await askOnce(socket, bytes);
        socket.destroy();
      });
  } else {
    const socket = await open(address, port);
    for (let n = 0; n < WARM_UP; n++) await askOnce(socket, bytes);
    for (let n = 0; n < count; n++) {
      if (how === "idle") await pause(IDLE_MS);
      await timed(() => askOnce(socket, bytes));
    }
    socket.destroy();
  }
  process.stdout.write(`${JSON.stringify(times)}\n`);
}

const [verb, ...rest] = process.argv.slice(2);
const number = (index: number): number => Number(rest[index]);
if (verb === "serve") serve(number(0));
else if (verb === "ask") await ask(String(rest[0]), number(1), number(2), number(3), String(rest[4]));
else process.exitCode = 2;
