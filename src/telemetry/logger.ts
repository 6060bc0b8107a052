import { type DestinationStream, type Logger, type LoggerOptions, pino } from 'pino'
import { describeFault } from '../core/errors.ts'
import type { RunReport } from '../core/report.ts'
import { Output } from './output.ts'

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

const flushMs = 500

/** JSON lines on stdout; what is logged is chosen field by field, so there is nothing to redact. */
export function createLogger(level: LogLevel, to: DestinationStream = new Output()): Logger {
  const options: LoggerOptions = {
    level,
    base: null,
    messageKey: 'message',
    timestamp: isoTime,
    formatters: { level: (label) => ({ level: label }) },
  }
  return pino(options, to)
}

/** Gives the last lines, of which there is at least one, a moment to be taken before the process ends. */
export async function flushLogs(logger: Logger): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, flushMs)
  logger.flush(() => resolve())
  await promise
  clearTimeout(timer)
}

let second = Number.NaN
let secondText = ''

/** As pino's own, but a date is made into text once a second: each time costs 3 µs. */
function isoTime(): string {
  const now = Date.now()
  const milliseconds = now % 1_000
  if (now - milliseconds !== second) {
    second = now - milliseconds
    secondText = `,"time":"${new Date(second).toISOString().slice(0, -4)}`
  }
  return `${secondText}${String(milliseconds).padStart(3, '0')}Z"`
}

/** The one line of a stream, written at its end: all one needs to answer «what happened to stream X?». */
export function logRun(logger: Logger, report: RunReport): void {
  const { terminal, failure, timing } = report
  const fields = {
    stream: report.stream,
    ...(report.principal !== '' && { principal: report.principal }),
    request_id: report.requestId,
    ...(report.preset !== undefined && { preset: report.preset }),
    ...(report.trace && { trace_id: report.trace.traceId }),
    model: report.model,
    status: terminal.type,
    ...(terminal.type === 'done' && { stop_reason: terminal.stop_reason, cost_usd: terminal.cost_usd }),
    ...(terminal.type === 'cancelled' && { by: terminal.by }),
    ...(terminal.type === 'error' && { code: terminal.error.code, partial: terminal.partial }),
    ...(failure?.reason !== undefined && { reason: failure.reason }),
    ...(failure?.code === 'internal' && { fault: describeFault(failure.cause) }),
    attempts: report.attempts,
    ...(report.failedAttempts.length > 0 && { failed_attempts: report.failedAttempts }),
    ...(terminal.type === 'done' && terminal.recovered > 0 && { recovered: terminal.recovered }),
    input_tokens: terminal.usage.input_tokens,
    output_tokens: terminal.usage.output_tokens,
    measured: terminal.usage.measured ?? true,
    ...timing,
    upstream_bytes: report.upstreamBytes,
    upstream_request_id: failure?.upstreamRequestId ?? report.upstreamRequestId,
  }
  const ours = failure && (failure.code === 'internal' || failure.code === 'upstream_auth')
  logger[ours ? 'error' : 'info'](fields, 'stream ended')
}
