// What PostgreSQL and the way to it refuse, as sentences that say what to do.
import { AnnealError } from '../../contracts/failure.ts';
import { badSource } from './raw.ts';

/** PostgreSQL's classes of errors that are the spec's fault: rights, names, syntax (appendix A of its manual). */
const SPEC_CLASSES = ['28', '3D', '3F', '42', '22', '0A', '25'];

/** OpenSSL's and Node's codes of certificates that are not trusted. */
const CERTIFICATE = /CERT|UNABLE_TO_(?:VERIFY|GET_ISSUER)|SELF_SIGNED/;

/** @returns `bad_request` where repeating is pointless, else `source_unavailable`. */
export function postgresError(error: unknown, uri: string): AnnealError {
  const { code = '', message = '' } = error as { code?: string; message?: string };
  const reason = message.replaceAll(/\s+/g, ' ').slice(0, 300);
  if (/no encryption/.test(reason))
    return badSource(uri, 'takes encrypted connections only; add `?sslmode=verify-full` to its address', error);
  if (/does not support SSL/.test(reason))
    return badSource(uri, 'has no TLS, and its address asks for it; take `sslmode` out of it', error);
  if (CERTIFICATE.test(code))
    return badSource(
      uri,
      `has a certificate that is not trusted (${reason.replace(/;.*/, '')}); name the host as the certificate does, and the file of its authority on the data worker by \`sslrootcert\` in the address`,
      error,
    );
  if (SPEC_CLASSES.includes(code.slice(0, 2)))
    return badSource(
      uri,
      `was refused by PostgreSQL (${reason}, ${code}); correct the address, \`query\` or \`table\`, or the user's rights`,
    );
  if (/password|SASL/i.test(reason))
    return badSource(uri, 'asks for a password; set PGPASSWORD or ~/.pgpass on the data worker');
  return new AnnealError(
    'source_unavailable',
    `Source ${uri} could not be read (${reason || code}); check the address and the database.`,
    { cause: error },
  );
}

/** Of an address that no client can be made of. */
export function addressError(error: unknown, uri: string): AnnealError {
  const { code, path } = error as { code?: string; path?: string };
  if (code === 'ENOENT' || code === 'EACCES')
    return badSource(uri, `names a file that cannot be read on the data worker (${path}); put it there`, error);
  return badSource(uri, 'is no valid address of a database; write postgres://user@host/database', error);
}
