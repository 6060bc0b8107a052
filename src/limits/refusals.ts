import { type ErrorCode, errorTable, SluiceError } from '../core/errors.ts'
import type { LimitName, Refusal } from '../core/limits.ts'

const codes: Readonly<Record<LimitName, ErrorCode>> = {
  requests_per_minute: 'rate_limited',
  concurrent_streams: 'too_many_concurrent_streams',
  tokens_per_day: 'token_budget_exhausted',
  usd_per_day: 'spend_limit_reached',
}

/**
 * What a client is told.
 * @param isTotal it is not he who has used so much
 */
export function refusalOf({ limit, reserved, waitMs }: Refusal, isTotal: boolean): SluiceError {
  const code = reserved ? 'budget_reserved' : codes[limit]
  return new SluiceError(code, {
    reason: isTotal ? `total ${limit}` : limit,
    retryAfterMs: reserved || waitMs === 0 ? undefined : waitMs,
    ...(isTotal && { message: `${errorTable[code].message} It is the limit of all clients together.` }),
  })
}
