import type { Format } from '../core/format.ts'
import { agUi } from './ag-ui.ts'
import { aiSdk } from './ai-sdk.ts'
import { anthropic } from './anthropic.ts'
import { json } from './json.ts'
import { openai } from './openai.ts'
import { text } from './text.ts'

/** Every format. A new one is a file beside these and a line here; requests, docs and contract tests follow. */
export const formats = { json, text, anthropic, openai, 'ai-sdk': aiSdk, 'ag-ui': agUi } as const satisfies Record<
  string,
  Format
>

export type FormatName = keyof typeof formats
