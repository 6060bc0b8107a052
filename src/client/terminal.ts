import type { Frame } from '../core/frames.ts'

export type TerminalFrame = Extract<Frame, { type: 'done' | 'error' | 'cancelled' }>

/** Nothing follows. */
export function isTerminal(frame: Frame): frame is TerminalFrame {
  return frame.type === 'done' || frame.type === 'error' || frame.type === 'cancelled'
}

const withoutContent: ReadonlySet<string> = new Set([
  'start',
  'message',
  'progress',
  'recovery',
  'done',
  'error',
  'cancelled',
])

export const bringsContent = ({ type }: Frame): boolean => !withoutContent.has(type)
