// What an export has written. State in, lines out.
import type { FileSet } from '../../contracts/records.ts';
import type { Exportable } from '../../registry/export.ts';
import { formatBytes, type Paint, table } from './format.ts';

export function exportLines(
  { run, version, training }: Exportable,
  folders: Record<string, FileSet>,
  folder: string,
  paint: Paint,
): string[] {
  const { bestModel, step } = training.result;
  const of = version === null ? `run ${run}` : `${version.model} version ${version.version} (run ${run})`;
  const rows = Object.entries(folders).map(([name, { files }]) => [
    `${name}/`,
    formatBytes(files.reduce((sum, { size }) => sum + size, 0)),
    files.map(({ path }) => path).join(', '),
  ]);
  return [
    `${paint.bold('Exported')} ${of}, step ${step}, to ${folder}`,
    ...table(rows, [1]).map((line) => `  ${line}`),
    ...(bestModel === null
      ? []
      : [`  best_model_info.json: step ${bestModel.step}, ${bestModel.metric} ${bestModel.value.toFixed(4)}`]),
  ];
}
