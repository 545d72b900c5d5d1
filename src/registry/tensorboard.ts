// A learning curve as TensorBoard reads it: framed, checksummed `Event` messages (tensorflow/core/util/event.proto), written by hand
// because they are three fields deep. Nothing here reads the clock: the same curve gives the same bytes.
import type { LearningCurve } from '../contracts/learning-curve.ts';

/** TensorBoard looks for `tfevents` in a file's name. */
export const TENSORBOARD_FILE = 'events.out.tfevents.0.anneal';

/** CRC-32C (Castagnoli), reflected. */
const POLYNOMIAL = 0x82f63b78;
/** Of TFRecord's masked checksums. */
const MASK_DELTA = 0xa282ead8;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc >>> 0;
});

/** @param atSeconds when the run began, seconds since the epoch: all its events bear that time */
export function encodeCurve({ steps, validations }: LearningCurve, atSeconds: number): Buffer {
  const scalar = (step: number, tag: string, value: number) => frame(scalarEvent(atSeconds, step, tag, value));
  return Buffer.concat([
    frame(Buffer.concat([wallTime(atSeconds), bytesField(3, Buffer.from('brain.Event:2'))])),
    ...steps.flatMap(({ step, loss, gradNorm, learningRate }) => [
      scalar(step, 'train/loss', loss),
      scalar(step, 'train/grad_norm', gradNorm),
      scalar(step, 'train/learning_rate', learningRate),
    ]),
    ...validations.flatMap(({ step, loss, accuracy }) => [
      scalar(step, 'eval/loss', loss),
      ...(accuracy === undefined ? [] : [scalar(step, 'eval/accuracy', accuracy)]),
    ]),
  ]);
}

/** `Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } } }`. */
function scalarEvent(atSeconds: number, step: number, tag: string, value: number): Buffer {
  const simple = Buffer.alloc(5);
  simple[0] = fieldTag(2, 5);
  simple.writeFloatLE(value, 1);
  const summary = bytesField(1, Buffer.concat([bytesField(1, Buffer.from(tag)), simple]));
  return Buffer.concat([wallTime(atSeconds), Buffer.from([fieldTag(2, 0)]), varint(step), bytesField(5, summary)]);
}

function wallTime(seconds: number): Buffer {
  const field = Buffer.alloc(9);
  field[0] = fieldTag(1, 1);
  field.writeDoubleLE(seconds, 1);
  return field;
}

function bytesField(number: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([fieldTag(number, 2)]), varint(bytes.length), bytes]);
}

function fieldTag(number: number, wireType: number): number {
  return (number << 3) | wireType;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}

/** Length, its checksum, the message, its checksum: a TFRecord. */
function frame(message: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeUInt32LE(message.length, 0);
  return Buffer.concat([length, maskedChecksum(length), message, maskedChecksum(message)]);
}

function maskedChecksum(bytes: Buffer): Buffer {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (CRC_TABLE[(crc ^ byte) & 0xff] as number) ^ (crc >>> 8);
  crc = (crc ^ 0xffffffff) >>> 0;
  const masked = Buffer.alloc(4);
  masked.writeUInt32LE((((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0);
  return masked;
}
