/** The address that limits count by: a /64 for IPv6, since one machine owns all of it. */
export function addressKey(address: string): string {
  const plain = address.startsWith("::ffff:") ? address.slice(7) : address;
  return plain.includes(":") ? plain.split(":").slice(0, 4).join(":") : plain;
}
