/** `npm run lab -- dns-fuzz`: mutated datagrams, and streams over TCP, at a name server in a process of its own. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { parseArgs } from "node:util";
import { udpPayloadBytesMax } from "../../mapping/core/dns/constants.ts";
import { readMessage } from "../../mapping/core/dns/wire.ts";
import { usageOf } from "../bench/tools/process-tree.ts";
import { wholeNumber } from "../tools/flags.ts";
import { mutateDnsPacket, randomBelow } from "../tools/hostile/dns-packets.ts";
import { startIsochrone } from "../tools/processes.ts";
import { query } from "../unit/mapping-dns/fixture.ts";

export const summary =
  "a million mutated datagrams at a name server: it lives, every reply parses, no more goes out than comes in, memory stays flat";

/** What a heap that is collected now and then goes up and down by: 100,000 streams that leave 200 octets each are above it. */
const FLAT_MEBIBYTES = 16;

const HELP = `Usage: npm run lab -- dns-fuzz [options]

${summary}. Exit code 1: it died, a reply was malformed or too long, a good query went unanswered,
more octets came back than were sent and --surplus-limit has (the sender shows no cookie), or memory was not flat: the most of the second half
of the datagrams, or of the streams, was above the most of the first half by more than ${FLAT_MEBIBYTES} MiB.

  --packets N   datagrams (default 1000000)
  --streams N   TCP connections with mutated streams (default 2000)
  --seed N      the same seed gives the same packets (default 1)
  --plain-udp   the server without batches
  --help
`;

const MEBIBYTE = 1024 * 1024;
/** Looks at the memory in each half. */
const STEPS = 5;

/** Datagrams sent before the server is asked whether it is still there: less than its receive buffer holds. */
const BURST = 400;
const ASK_TIMEOUT_MS = 5_000;
const STREAM_TIMEOUT_MS = 5_000;
const STREAMS_AT_ONCE = 20;
/** Octets a second beyond those sent: hardly any. */
const SURPLUS_BYTES_PER_SECOND = 1_000;
/** Who asks whether the server is still there, and is known to it by a handshake. */
const KNOWN_ADDRESS = "127.0.0.2";

interface Findings {
  replies: number;
  malformed: number;
  tooLong: number;
  unanswered: number;
  /** Over UDP, of the sender of what is mutated. */
  bytesSent: number;
  bytesReceived: number;
}

export async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      packets: { type: "string", default: "1000000" },
      streams: { type: "string", default: "2000" },
      seed: { type: "string", default: "1" },
      "plain-udp": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const packets = wholeNumber("packets", values.packets, BURST, 1_000_000_000);
  const streams = wholeNumber("streams", values.streams, 0, 10_000_000);
  const random = randomBelow(wholeNumber("seed", values.seed, 1, 2 ** 31 - 1));
  const more = values["plain-udp"] ? ["--plain-udp"] : [];
  const server = await startIsochrone([
    "dns",
    "--world",
    "demo",
    "--listen",
    "127.0.0.1:0",
    "--rate-limit",
    "0",
    "--surplus-limit",
    String(SURPLUS_BYTES_PER_SECOND),
    ...more,
  ]);
  let isAlive = true;
  void server.exit.then(() => {
    isAlive = false;
  });
  const port = Number(/:(\d+)\b/.exec(server.readyLine)?.[1]);
  const findings: Findings = {
    replies: 0,
    malformed: 0,
    tooLong: 0,
    unanswered: 0,
    bytesSent: 0,
    bytesReceived: 0,
  };
  const rssMebibytes = { datagrams: [] as number[], streams: [] as number[] };
  const look = (at: keyof typeof rssMebibytes, done: number): void => {
    const now = Math.round(usageOf([server.pid]).rssBytes / MEBIBYTE);
    rssMebibytes[at].push(now);
    console.error(`dns-fuzz: ${done} ${at}, ${findings.replies} replies, RSS ${now} MiB`);
  };
  let survived = false;
  let surplusMax = 0;
  try {
    const socket = createSocket({ type: "udp4", recvBufferSize: 4 * MEBIBYTE }).bind(0, "127.0.0.1");
    await once(socket, "listening");
    socket.on("message", (bytes) => {
      findings.bytesReceived += bytes.length;
      judge(bytes, udpPayloadBytesMax, findings);
    });
    await shakeHands(port);
    const beganMs = performance.now();
    for (let step = 0, sent = 0; step < 2 * STEPS && isAlive; step++) {
      for (
        const stop = Math.round((packets * (step + 1)) / (2 * STEPS));
        sent < stop && isAlive;
        sent += BURST
      ) {
        for (let one = 0; one < BURST; one++) {
          const bytes = mutateDnsPacket(random);
          findings.bytesSent += bytes.length;
          socket.send(bytes, port, "127.0.0.1");
        }
        if (!(await isAnswering(port))) findings.unanswered++;
      }
      look("datagrams", sent);
    }
    socket.close();
    surplusMax = SURPLUS_BYTES_PER_SECOND * (1 + (performance.now() - beganMs) / 1_000);
    for (let step = 0, done = 0; step < 2 * STEPS && isAlive; step++) {
      for (
        const stop = Math.round((streams * (step + 1)) / (2 * STEPS));
        done < stop && isAlive;
        done += STREAMS_AT_ONCE
      )
        await Promise.all(Array.from({ length: STREAMS_AT_ONCE }, () => stream(port, random, findings)));
      look("streams", done);
    }
    if (isAlive && !(await isAnswering(port))) findings.unanswered++;
    survived = isAlive;
  } finally {
    await server.stop();
  }
  const { malformed, tooLong, unanswered } = findings;
  const isWithin = findings.bytesReceived <= findings.bytesSent + surplusMax;
  const isFlat = isFlatIn(rssMebibytes.datagrams) && isFlatIn(rssMebibytes.streams);
  const isGood =
    isWithin &&
    isFlat &&
    survived &&
    malformed + tooLong + unanswered === 0 &&
    findings.replies > packets / 10;
  const died = survived ? undefined : server.stderr().slice(-2_048);
  console.log(
    JSON.stringify({ packets, streams, ...findings, survived, died, isFlat, rssMebibytes }, undefined, 2),
  );
  return isGood ? 0 : 1;
}

function isFlatIn(mebibytes: readonly number[]): boolean {
  const most = (part: readonly number[]): number => Math.max(0, ...part);
  return most(mebibytes.slice(STEPS)) <= most(mebibytes.slice(0, STEPS)) + FLAT_MEBIBYTES;
}

function judge(bytes: Uint8Array, bytesMax: number, findings: Findings): void {
  findings.replies++;
  const read = readMessage(bytes);
  if (!read.ok || !read.message.header.isResponse) findings.malformed++;
  if (bytes.length > bytesMax) findings.tooLong++;
}

/** One query over TCP, so that the address is known. */
async function shakeHands(port: number): Promise<void> {
  const socket = connect({ port, host: "127.0.0.1", localAddress: KNOWN_ADDRESS });
  const asked = query();
  socket.end(Buffer.concat([Buffer.from([0, asked.length]), asked]));
  socket.resume();
  await once(socket, "close");
}

/** Whether a good query still gets its answer; asked again once, since a full buffer loses datagrams. */
async function isAnswering(port: number): Promise<boolean> {
  for (let attempt = 0; attempt < 2; attempt++) {
    const socket = createSocket("udp4");
    try {
      const reply = once(socket, "message", { signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
      socket.bind(0, KNOWN_ADDRESS);
      socket.send(query(), port, "127.0.0.1");
      const [bytes] = (await reply) as [Uint8Array];
      const read = readMessage(bytes);
      if (read.ok && read.message.answers.length > 0) return true;
    } catch {
      continue;
    } finally {
      socket.close();
    }
  }
  return false;
}

/** Some messages with lengths that are mostly right, in pieces; whatever comes back must be framed messages. */
async function stream(port: number, random: (below: number) => number, findings: Findings): Promise<void> {
  const parts: Buffer[] = [];
  for (let count = 1 + random(8); count > 0; count--) {
    const bytes = mutateDnsPacket(random);
    const length = random(20) === 0 ? random(65_536) : bytes.length;
    parts.push(Buffer.from([length >> 8, length & 0xff]), Buffer.from(bytes));
  }
  const octets = Buffer.concat(parts);
  const socket = connect({ port, host: "127.0.0.1" });
  const received: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => received.push(chunk));
  socket.on("error", () => socket.destroy());
  const timer = setTimeout(() => socket.destroy(), STREAM_TIMEOUT_MS);
  const cut = random(octets.length + 1);
  socket.write(octets.subarray(0, cut));
  socket.end(octets.subarray(cut));
  await once(socket, "close");
  clearTimeout(timer);
  const all = Buffer.concat(received);
  for (let at = 0; at + 2 <= all.length; ) {
    const length = all.readUInt16BE(at);
    if (at + 2 + length > all.length) break;
    judge(all.subarray(at + 2, at + 2 + length), 65_535, findings);
    at += 2 + length;
  }
}
