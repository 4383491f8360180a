/** The certificate that every server of a TLS benchmark gets: ECDSA P-256, self-signed, made anew for each run. */
import { join } from "node:path";
import type { Certificate } from "../peers/peer.ts";
import { runToEnd, scratchDirectory } from "./program.ts";

const OPENSSL_TIMEOUT_MS = 10_000;

/** @throws Error when there is no openssl */
export async function makeCertificate(): Promise<Certificate> {
  const directory = scratchDirectory("certificate");
  const certificateFile = join(directory, "certificate.pem");
  const keyFile = join(directory, "key.pem");
  await runToEnd(
    "openssl",
    [
      ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(" "),
      ..."-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(" "),
      "-keyout",
      keyFile,
      "-out",
      certificateFile,
    ],
    OPENSSL_TIMEOUT_MS,
  );
  return { certificateFile, keyFile };
}
