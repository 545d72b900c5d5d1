// DeepSpeed, for who asks for it with ANNEAL_DEEPSPEED=1. Nothing of it is compiled: the optimizer is torch's, and CPUs talk by gloo.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT, PYTHON, VENV } from './places.mjs';
import { NETWORK_REMEDY } from './python.mjs';
import { digestOf } from './stamps.mjs';
import { runTool } from './tool.mjs';

const REQUIREMENTS = join(PROJECT, 'gpu-activity-image', 'requirements-deepspeed.txt');

/** As the image installs it, too. */
export const DEEPSPEED_OPTIONS = ['--no-deps', '--no-build-isolation'];
export const DEEPSPEED_ENVIRONMENT = { DS_BUILD_OPS: '0', DS_ACCELERATOR: 'cpu' };

export const isDeepSpeedWanted = () => process.env.ANNEAL_DEEPSPEED === '1';

export const deepspeed = {
  name: 'deepspeed',
  stamp: 'deepspeed',
  what: 'pip install of DeepSpeed into .anneal/venv',
  digest: () => digestOf([`file:${REQUIREMENTS}`]),
  isPresent: () => existsSync(join(VENV, 'bin', 'deepspeed')),
  async run() {
    const options = ['--disable-pip-version-check', '--no-input', ...DEEPSPEED_OPTIONS];
    await runTool(PYTHON, ['-m', 'pip', 'install', ...options, '-r', REQUIREMENTS], {
      cwd: PROJECT,
      env: { ...process.env, ...DEEPSPEED_ENVIRONMENT },
      what: 'Installing DeepSpeed',
      remedy: NETWORK_REMEDY,
    });
  },
};
