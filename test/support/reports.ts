import type { AttemptReport, RunReport } from '../../src/core/report.ts'
import { done } from './logs.ts'

export const attempt: AttemptReport = {
  kind: 'first',
  model: 'claude-test',
  after: undefined,
  sentAt: 1_000,
  headersAt: 1_100,
  contentAt: 1_500,
  endedAt: 3_000,
  failure: undefined,
  upstreamRequestId: 'req_1',
  spanId: undefined,
}

/** Of a run that went well: two seconds, half of one to its first word. */
export const report: RunReport = {
  stream: `s_${'A'.repeat(22)}`,
  principal: '',
  adopted: false,
  requestId: 'r',
  model: 'claude-test',
  requestedModel: 'claude-test',
  terminal: { ...done, usage: { input_tokens: 10, output_tokens: 31 } },
  timing: { ttft_ms: 500, duration_ms: 2_000, tokens_per_second: 20 },
  startedAt: 1_000,
  endedAt: 3_000,
  attempts: 1,
  tries: [attempt],
  failedAttempts: [],
  failure: undefined,
  costUsd: 0.25,
  messageId: 'msg_1',
  responseModel: 'claude-test',
  trace: undefined,
  upstreamBytes: 100,
  upstreamRequestId: 'req_1',
}
