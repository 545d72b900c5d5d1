// All workflows: what the control worker bundles.
export { FineTune } from './fine-tune.ts';
export { Retraining } from './retraining.ts';
