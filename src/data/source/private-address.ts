// Which addresses of the network a source on the web may not lead to: those that only the data worker can reach.
import { lookup as resolveName } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/** Special-purpose ranges (IANA registries; RFC 6890): loopback, private, link-local (where clouds keep credentials), shared, reserved. */
const PRIVATE: readonly (readonly [string, number, 'ipv4' | 'ipv6'])[] = [
  ...(['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12'] as const),
  ...([
    '192.0.0.0/24',
    '192.0.2.0/24',
    '192.168.0.0/16',
    '198.18.0.0/15',
    '198.51.100.0/24',
    '203.0.113.0/24',
  ] as const),
  ...(['224.0.0.0/4', '240.0.0.0/4', '::/128', '::1/128', 'fc00::/7', 'fe80::/10', 'fec0::/10', 'ff00::/8'] as const),
  // Addresses of the older kind inside of the newer one: NAT64, 6to4, Teredo.
  ...(['64:ff9b::/96', '64:ff9b:1::/48', '2002::/16', '2001::/32', '2001:db8::/32', '100::/64'] as const),
].map((range) => {
  const [address, bits] = range.split('/') as [string, string];
  return [address, Number(bits), address.includes(':') ? 'ipv6' : 'ipv4'] as const;
});

const blocked = new BlockList();
for (const range of PRIVATE) blocked.addSubnet(...range);

export function isPrivateAddress(address: string): boolean {
  return blocked.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

/** The name leads to an address that is not for sources. */
export class PrivateAddress extends Error {
  readonly address: string;
  constructor(address: string) {
    super(`the private address ${address}`);
    this.name = 'PrivateAddress';
    this.address = address;
  }
}

/** Refuses a host that is written as a private address; names are looked at when they are resolved (`lookupPublic`). */
export function requirePublicHost(hostname: string): void {
  const address = hostname.replace(/^\[|\]$/g, '');
  if (isIP(address) !== 0 && isPrivateAddress(address)) throw new PrivateAddress(address);
}

/** Resolves a name to the very addresses that are then connected to, and fails when one of them is private. */
export const lookupPublic: LookupFunction = (hostname, options, done) => {
  resolveName(hostname, { ...options, all: true }, (error, addresses) => {
    const refused = addresses?.find(({ address }) => isPrivateAddress(address));
    const first = addresses?.[0];
    if (error !== null) done(error, []);
    else if (refused !== undefined) done(new PrivateAddress(refused.address) as NodeJS.ErrnoException, []);
    else if (options.all) done(null, addresses);
    else done(null, first?.address ?? '', first?.family);
  });
};
