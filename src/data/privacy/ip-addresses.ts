// Finds IP addresses: not versions, not addresses that belong to nobody; those of private networks on request.
import { isIPv6 } from 'node:net';
import type { Finding } from './findings.ts';

const IPV4 =
  /(?<![\w.-])(?<!(?<!\/)\/)(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?![\w-]|\.\w)/g;
const IPV6 = /(?<![\w:.])[23f][\da-f]{3}(?::[\da-f]{0,4}){2,7}(?![\w:]|\.\w)/gi;

/** What stands before four numbers that are no address. */
const VERSION_BEFORE =
  /(?:\bv|\b(?:version|ver|release|build|firmware|driver|rev|revision|update|upgrade|upgraded|upgrade to|upgraded to|patch|section|chapter|clause|article|paragraph|abschnitt|kapitel|sección|oid)|§)[\s.:#=-]*$/i;
const ADDRESS_BEFORE =
  /\b(?:ip|ipv4|address|adresse|host|server|dns|gateway|ping|from|at|login|client|peer)\b[^\d]{0,16}$/i;
const CONTEXT_CHARS = 24;
/** Parts of versions are small: `Python 3.11.4.1`. One address in four thousand has only such. */
const VERSION_PART_MAX = 32;

export function findIpAddresses(text: string, original: string, withPrivate: boolean): Finding[] {
  const findings: Finding[] = [];
  for (const { 0: value, index } of text.matchAll(IPV4)) {
    if (!isAddressV4(value, text.slice(Math.max(0, index - CONTEXT_CHARS), index), withPrivate)) continue;
    findings.push({ type: 'ip', start: index, end: index + value.length, value });
  }
  for (const { 0: matched, index } of original.matchAll(IPV6)) {
    // A single colon at the end belongs to the sentence.
    const value = /[^:]:$/.test(matched) ? matched.slice(0, -1) : matched;
    if (!isIPv6(value) || !(withPrivate || isPublicV6(value))) continue;
    findings.push({ type: 'ip', start: index, end: index + value.length, value: value.toLowerCase() });
  }
  return findings;
}

function isAddressV4(value: string, before: string, withPrivate: boolean): boolean {
  if (VERSION_BEFORE.test(before)) return false;
  const octets = value.split('.').map(Number);
  if (isPrivateV4(octets)) return withPrivate;
  if (octets.every((octet) => octet < VERSION_PART_MAX) && !isRepeated(octets) && !ADDRESS_BEFORE.test(before))
    return false;
  return !isNobodys(octets);
}

/** `8.8.8.8`, but `1.2.3.4` is a version. */
function isRepeated(octets: number[]): boolean {
  return octets.every((octet) => octet === octets[0] && octet > 0);
}

/** This network, loopback, multicast, reserved, and the blocks of documentation (RFC 5737). */
function isNobodys([a = 0, b, c]: number[]): boolean {
  if (a === 0 || a === 127 || a >= 224) return true;
  return (
    (a === 192 && b === 0 && c === 2) || (a === 198 && b === 51 && c === 100) || (a === 203 && b === 0 && c === 113)
  );
}

function isPrivateV4([a, b = 0]: number[]): boolean {
  return (
    a === 10 ||
    (a === 172 && b >= 16 && b < 32) ||
    (a === 192 && b === 168) ||
    (a === 169 && b === 254) ||
    (a === 100 && b >= 64 && b < 128)
  );
}

/** 2000::/3 without the block of documentation. */
function isPublicV6(value: string): boolean {
  return /^[23]/.test(value) && !/^2001:0?db8:/i.test(value);
}
