/** A plain name server of the package dns2, to stand beside: argv is the port and the addresses of its one answer. */
import { createServer, Packet } from "dns2";
import { ANSWER_TTL_SECONDS } from "./deployment.ts";

const [port = "", addresses = ""] = process.argv.slice(2);
const answers = addresses.split(",");
const server = createServer({
  udp: true,
  tcp: true,
  handle: (request, send) => {
    const response = Packet.createResponseFromRequest(request);
    const [question] = request.questions;
    if (question !== undefined && question.type === Packet.TYPE.A)
      for (const address of answers)
        response.answers.push(
          new Packet.Resource({
            name: question.name,
            type: Packet.TYPE.A,
            class: Packet.CLASS.IN,
            ttl: ANSWER_TTL_SECONDS,
            address,
          }),
        );
    void send(response);
  },
});
const at = { port: Number(port), address: "127.0.0.1" };
await server.listen({ udp: at, tcp: at });
