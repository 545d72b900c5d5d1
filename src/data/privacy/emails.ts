// Finds e-mail addresses. From each @ outwards, so that the time is linear in the text.
import type { Finding } from './findings.ts';

/** RFC 5321. */
const LOCAL_CHARS_MAX = 64;
const DOMAIN_CHARS_MAX = 255;

const LOCAL = /[\p{Script=Latin}\d._%+'-]$/u;
const LOCAL_PART = /[\p{Script=Latin}\d](?:[\p{Script=Latin}\d._%+'-]*[\p{Script=Latin}\d_+-])?$/u;
const DOMAIN =
  /^(?:[\p{Script=Latin}\d](?:[\p{Script=Latin}\d-]{0,61}[\p{Script=Latin}\d])?\.){1,8}[a-z]{2,24}(?![a-z\d_]|-[a-z\d]|\.[a-z\d])/iu;

/** `https://user:password@host` */
const IN_URL = /:\/\/(?:[^\s/@]*:)?$/;

/** `icon@2x.png` is a file. */
const FILE_ENDING = /\.(?:png|jpe?g|gif|webp|svg|ico|pdf|css|jsx?|tsx?|mjs|json|html?|zip|gz|mp[34]|wav|csv|txt|md)$/i;

/** Linear also in a text of @ signs only. */
export function findEmails(text: string): Finding[] {
  const findings: Finding[] = [];
  for (let at = text.indexOf('@'); at !== -1; at = text.indexOf('@', at + 1)) {
    const found = emailAround(text, at);
    if (found !== null) findings.push(found);
  }
  return findings;
}

function emailAround(text: string, at: number): Finding | null {
  if (!LOCAL.test(text.charAt(at - 1))) return null;
  const domain = DOMAIN.exec(text.slice(at + 1, at + 1 + DOMAIN_CHARS_MAX))?.[0];
  if (domain === undefined || FILE_ENDING.test(domain)) return null;
  const local = LOCAL_PART.exec(text.slice(Math.max(0, at - LOCAL_CHARS_MAX), at))?.[0];
  if (local === undefined || isSshRemote(text, local, at + 1 + domain.length)) return null;
  const end = at + 1 + domain.length;
  const start = at - local.length;
  if (IN_URL.test(text.slice(Math.max(0, start - LOCAL_CHARS_MAX), start))) return null;
  return { type: 'email', start, end, value: text.slice(start, end).toLowerCase() };
}

/** `git@github.com:owner/name` */
function isSshRemote(text: string, local: string, end: number): boolean {
  return local === 'git' && text[end] === ':';
}
