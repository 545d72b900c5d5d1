// Cleans the pieces of a range. What was made of the same bytes by the same rules and code is found again, whoever made it.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CleanedRange } from '../../contracts/cleaned-range.ts';
import type { Source } from '../../contracts/data-spec.ts';
import { plural } from '../../contracts/plural.ts';
import { type CleanedPiece, CleanedPieceSchema, type Piece, type RangePlan } from '../../contracts/ranges.ts';
import type { FrozenSource, Snapshot } from '../../contracts/records.ts';
import type { Spec } from '../../contracts/spec.ts';
import { digestOf, sha256Hex } from '../../storage/digest.ts';
import { fileSetOf, putFolder } from '../../storage/file-set.ts';
import { keys } from '../../storage/keys.ts';
import { createJson, readJson } from '../../storage/record.ts';
import { codeIdentity } from '../../telemetry/code-identity.ts';
import { mappingOf } from '../mapping.ts';
import { createImageFinder, imageTables } from '../media/frozen.ts';
import type { FindImage } from '../media/media.ts';
import { cleanRange } from '../range/clean.ts';
import { cleanRangeInThread } from '../range/in-thread.ts';
import { MEDIA_FOLDER, type RangeContext, type RangeOptions } from '../range/options.ts';
import { specSourceOf } from '../snapshot.ts';
import { endPartOf, partOf, readSource } from '../source-bytes.ts';
import { sourceNames } from '../source-names.ts';
import { type Decontamination, findContaminated } from './contaminated.ts';
import type { PreparationHost, PreparationInput } from './host.ts';
import { loadSnapshot } from './snapshots.ts';

/** From here on a piece has a thread of its own, bytes: starting one takes longer than cleaning less. */
const THREAD_BYTES_MIN = 4 * 1024 * 1024;

/** @throws AnnealError `data_rejected` for a CSV header that cannot be used. */
export async function cleanPieces(
  host: PreparationHost,
  { spec, snapshot: digest }: PreparationInput,
  plan: RangePlan,
  pieces: Piece[],
): Promise<CleanedPiece[]> {
  const snapshot = await loadSnapshot(host.store, digest);
  const decontamination = plan.suites === null ? null : { suites: plan.suites, ngram: spec.data.decontaminate.ngram };
  const cleaned: CleanedPiece[] = [];
  const of = pieces.reduce((sum, piece) => sum + bytesOf(piece, snapshot), 0);
  let before = 0;
  for (const piece of pieces) {
    const done = before;
    const report: PreparationHost['report'] = ({ phase, step }) =>
      host.report(step === undefined ? { phase } : { phase, step: done + step, of });
    cleaned.push(await cleanPiece({ ...host, report }, spec, snapshot, piece, decontamination));
    before += bytesOf(piece, snapshot);
  }
  return cleaned;
}

function bytesOf({ source, startOffset, endOffset }: Piece, { sources }: Snapshot): number {
  return (endOffset ?? (sources[source] as FrozenSource).sizeBytes) - startOffset;
}

async function cleanPiece(
  host: PreparationHost,
  spec: Spec,
  snapshot: Snapshot,
  piece: Piece,
  decontamination: Decontamination | null,
): Promise<CleanedPiece> {
  const source = snapshot.sources[piece.source] as FrozenSource;
  const wanted = specSourceOf(spec.data.sources, snapshot, piece.source);
  const name = sourceNames(snapshot.sources)[piece.source] as string;
  const options = optionsOf(spec, { source, name, wanted }, piece);
  const [firstPart, endPart] = [partOf(piece.startOffset), endPartOf(source, piece.endOffset)];
  const parts = source.parts.slice(firstPart, endPart);
  const images = imageTables(source, firstPart, endPart);
  const input = {
    ...{ options, parts, decontamination, code: codeIdentity().digest },
    ...(images.length > 0 && { images }),
    key: host.pseudonymKey === null ? null : sha256Hex(host.pseudonymKey),
  };
  const key = keys.piece(digestOf(input));
  const earlier = await readJson(host.store, key, CleanedPieceSchema);
  if (earlier !== null) return earlier;
  const findImage = createImageFinder(host.store, images);
  const made = await makePiece(
    host,
    { source, findImage },
    { ...options, pseudonymKey: host.pseudonymKey },
    decontamination,
  );
  await createJson(host.store, key, made);
  return made;
}

function optionsOf(spec: Spec, { source, name, wanted }: Frozen, piece: Piece): Omit<RangeOptions, 'pseudonymKey'> {
  const { groupBy, filters, privacy, nearDuplicates, decontaminate } = spec.data;
  const sharedWords = decontaminate.heldOut === 'off' ? null : decontaminate.ngram;
  return {
    ...{ ...piece, name, format: source.format },
    mapping: mappingOf(spec, wanted),
    rules: { groupBy, filters, privacy, nearDuplicates, sharedWords },
  };
}

/** A source of the snapshot, and what the spec says of it. */
interface Frozen {
  source: FrozenSource;
  /** What people call it. */
  name: string;
  wanted: Source;
}

/** What is read while a piece is cleaned. */
interface Supplies {
  source: FrozenSource;
  findImage: FindImage;
}

async function makePiece(
  host: PreparationHost,
  supplies: Supplies,
  options: RangeOptions,
  decontamination: Decontamination | null,
): Promise<CleanedPiece> {
  const folder = join(host.folder, 'piece');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  try {
    const counts = await cleanBytes(host, supplies, options, folder);
    if (decontamination !== null) await findContaminated(host, decontamination, folder);
    const stored = await putFolder(host.store, folder, host.signal);
    // Rows name images by their digest, and each is a blob of its own now.
    const files = fileSetOf(stored.files.filter(({ path }) => !path.startsWith(`${MEDIA_FOLDER}/`)));
    return { source: options.source, counts, files };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function cleanBytes(
  host: PreparationHost,
  { source, findImage }: Supplies,
  options: RangeOptions,
  folder: string,
): Promise<CleanedRange> {
  const { startOffset, endOffset, name } = options;
  const read = (into?: () => Uint8Array) =>
    readSource(host.store, source, { startOffset, endOffset, ...(into && { into }) });
  const sizeBytes = (endOffset ?? source.sizeBytes) - startOffset;
  const context: RangeContext = {
    signal: host.signal,
    onProgress: ({ rowsIn, bytesRead }) =>
      host.report({ phase: `clean ${name}, ${plural(rowsIn, 'row')}`, step: bytesRead }),
    findImage,
  };
  return sizeBytes < THREAD_BYTES_MIN
    ? await cleanRange(read(), options, folder, context)
    : await cleanRangeInThread(read, options, folder, context);
}
