// Workflows whose activities are missed after two seconds, so that a test need not wait half a minute for a dead worker.
import type { WorkflowInterceptors } from '@temporalio/workflow';

export const interceptors = (): WorkflowInterceptors => ({
  inbound: [],
  outbound: [
    {
      async scheduleActivity(input, next) {
        const { heartbeatTimeout } = input.options;
        if (heartbeatTimeout === undefined) return await next(input);
        return await next({ ...input, options: { ...input.options, heartbeatTimeout: '4s' } });
      },
    },
  ],
});
