import type { ToolCall, Turn, Usage } from '../client/stream.ts'

/** An answer that is under way, and how to get it again. */
export interface Sent {
  /** The question went out under it; streams of others have none. */
  readonly key?: string
  /** The body of the question, but for its messages. */
  readonly fields: Readonly<Record<string, unknown>>
  /** Of the stream, as soon as it is known. */
  readonly id?: string
}

/** The last answer beside its turns. */
export interface Last {
  readonly text: string
  readonly thinking: string
  readonly toolCalls: readonly ToolCall[]
  readonly usage: Usage | undefined
  /** It ended in tool calls whose results are the next turn. */
  readonly wantsTools: boolean
}

/** What a page keeps of a conversation: it is written when a turn begins and ends, not while it is being told. */
export interface Saved {
  readonly turns: readonly Turn[]
  readonly sent?: Sent | undefined
  readonly last?: Last | undefined
}

interface Page {
  readonly sessionStorage?: Storage
  readonly reportError?: (error: unknown) => void
}

const page = globalThis as unknown as Page
const prefix = 'sluice:'

/** What was kept under a name in this tab, if anything was. */
export function load(name: string): Saved | undefined {
  try {
    const text = page.sessionStorage?.getItem(prefix + name)
    return text ? (JSON.parse(text) as Saved) : undefined
  } catch (error) {
    page.reportError?.(error)
    return undefined
  }
}

/** Keeps it; a page whose storage is full or forbidden goes on without, and its `error` event tells. */
export function save(name: string, saved: Saved): void {
  try {
    page.sessionStorage?.setItem(prefix + name, JSON.stringify(saved))
  } catch (error) {
    page.reportError?.(error)
  }
}
