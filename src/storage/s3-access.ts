// What the environment says of S3. Apart from the driver, so that whoever loads that late can have it at once.
import type { Environment } from '../contracts/environment.ts';

export interface S3Access {
  /** Empty or undefined = AWS. */
  endpoint?: string;
  region: string;
  accessKeyId?: string;
  secretAccessKey?: string;
}

export function s3AccessOf(environment: Environment): S3Access {
  return {
    endpoint: environment.ANNEAL_S3_ENDPOINT,
    region: environment.AWS_REGION,
    accessKeyId: environment.AWS_ACCESS_KEY_ID,
    secretAccessKey: environment.AWS_SECRET_ACCESS_KEY,
  };
}
