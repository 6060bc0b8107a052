import type { Delta } from './delta.ts'
import type { ClaudeEvent } from './events.ts'

/** A content block as Claude sends it, of whatever type. */
export interface Block {
  type: string
  [field: string]: unknown
}

type BlockStart = Extract<ClaudeEvent, { type: 'content_block_start' }>
type OtherDelta = Extract<ClaudeEvent, { type: 'content_block_delta' }>['delta']

/** A block between its start and its stop. */
export interface OpenBlock {
  readonly block: Block
  /** The input of a tool call so far, as it came; empty when none came. */
  inputJson: string
}

export function openBlock(event: BlockStart): OpenBlock {
  return { block: { ...event.content_block }, inputJson: '' }
}

/** Adds a piece of text, thinking or tool input. */
export function applyDelta(open: OpenBlock, delta: Delta): void {
  if (delta.kind === 'input_json') open.inputJson += delta.text
  else open.block[delta.kind] = `${open.block[delta.kind] ?? ''}${delta.text}`
}

/** Adds what any other delta says. Those of unknown types add up field by field: strings join, anything else replaces. */
export function applyOtherDelta({ block }: OpenBlock, delta: OtherDelta): void {
  switch (delta.type) {
    case 'citations_delta':
      block['citations'] = [...((block['citations'] as unknown[] | null | undefined) ?? []), delta.citation]
      break
    case 'signature_delta':
      block['signature'] = delta.signature
      break
    default:
      for (const [field, value] of Object.entries(delta)) {
        if (field === 'type') continue
        const before = block[field]
        const added = typeof before === 'string' && typeof value === 'string' ? before + value : value
        // Not an assignment: a field may be called `__proto__`.
        Object.defineProperty(block, field, { value: added, enumerable: true, writable: true, configurable: true })
      }
  }
}

/** The input of a tool call, parsed, or the text that does not parse: it is not to be run. */
export type ToolInput = { readonly input: unknown } | { readonly input: null; readonly invalid: string }

/** Far beyond what tools ask for. What is nested some thousand times deep can be parsed and not be written again. */
const maxInputDepth = 500

/**
 * A tool without arguments sends no JSON, or none but empty strings: its input is then what its start said, `{}`. One that
 * is too deep is as good as one that does not parse.
 */
export function toolInput({ block, inputJson }: OpenBlock): ToolInput {
  if (inputJson === '') return { input: block['input'] ?? {} }
  try {
    const input: unknown = JSON.parse(inputJson)
    if (inputJson.length <= 2 * maxInputDepth || !isTooDeep(input)) return { input }
  } catch {
    // Told below.
  }
  return { input: null, invalid: inputJson }
}

function isTooDeep(value: unknown): boolean {
  let level = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxInputDepth) return true
    level = level.flatMap((each) => (typeof each === 'object' && each !== null ? Object.values(each) : []))
  }
  return false
}
