// Which addresses of the network a source on the web may not lead to: those that only the data worker can reach.
import { lookup as resolveName } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/** Special-purpose ranges (IANA registries; RFC 6890): loopback, private, link-local (where clouds keep credentials), shared, reserved. */
const PRIVATE: readonly string[] = [
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
];

/** Where clouds keep the credentials of the machine that asks: no source lies there, also where private ones are allowed. */
const CREDENTIALS: readonly string[] = ['169.254.0.0/16', 'fe80::/10', 'fd00:ec2::/64', '100.100.100.200/32'];

const blocked = { private: blockListOf(PRIVATE), credentials: blockListOf(CREDENTIALS) };

function blockListOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [address, bits] = range.split('/') as [string, string];
    list.addSubnet(address, Number(bits), address.includes(':') ? 'ipv6' : 'ipv4');
  }
  return list;
}

function isIn(list: BlockList, address: string): boolean {
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

/** @param allowPrivate as the source says. */
export function isRefused(address: string, allowPrivate: boolean): boolean {
  return isIn(allowPrivate ? blocked.credentials : blocked.private, address);
}

/** The name leads to an address that is not for sources. */
export class PrivateAddress extends Error {
  readonly address: string;
  /** No spec can allow it. */
  readonly isForbidden: boolean;
  constructor(address: string) {
    super(`the private address ${address}`);
    this.name = 'PrivateAddress';
    this.address = address;
    this.isForbidden = isIn(blocked.credentials, address);
  }
}

/** Refuses a host that is written as such an address; names are looked at when they are resolved (`lookupFor`). */
export function requireHost(hostname: string, allowPrivate: boolean): void {
  const address = hostname.replace(/^\[|\]$/g, '');
  if (isIP(address) !== 0 && isRefused(address, allowPrivate)) throw new PrivateAddress(address);
}

/** Resolves a name to the very addresses that are then connected to, and fails when one of them is refused. */
export function lookupFor(allowPrivate: boolean): LookupFunction {
  return (hostname, options, done) => {
    resolveName(hostname, { ...options, all: true }, (error, addresses) => {
      const refused = addresses?.find(({ address }) => isRefused(address, allowPrivate));
      const first = addresses?.[0];
      if (error !== null) done(error, []);
      else if (refused !== undefined) done(new PrivateAddress(refused.address) as NodeJS.ErrnoException, []);
      else if (options.all) done(null, addresses);
      else done(null, first?.address ?? '', first?.family);
    });
  };
}
