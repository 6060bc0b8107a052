import type { CallToolResult } from '@modelcontextprotocol/client'
import type { ToolOutcome } from '../core/tools.ts'
import { type ContentBlock, cappedContent, imageBlock, textBlock, textOf } from './content.ts'

type McpBlock = CallToolResult['content'][number]

/** What an MCP tool answered, as Claude takes it. */
export function outcomeOf(result: CallToolResult, maxBytes: number): ToolOutcome {
  const { content, structuredContent, isError } = result
  const blocks = content.map(blockOf)
  // Servers should give it as text too; those that do not would have it lost.
  const isLeftOut = structuredContent !== undefined && !content.some(({ type }) => type === 'text')
  if (isLeftOut) blocks.push(textBlock(textOf(structuredContent)))
  return { content: cappedContent(blocks, maxBytes), is_error: isError === true }
}

function blockOf(block: McpBlock): ContentBlock {
  switch (block.type) {
    case 'text':
      return textBlock(block.text)
    case 'image':
      return imageBlock(block.data)
    case 'resource_link': {
      const { name, uri, description = '' } = block
      return textBlock(`[Resource ${name}: ${uri}] ${description}`.trim())
    }
    case 'resource': {
      const { resource } = block
      if ('text' in resource) return textBlock(resource.text)
      return /^image\//.test(resource.mimeType ?? '') ? imageBlock(resource.blob) : textBlock(leftOut(resource.uri))
    }
    default:
      return textBlock(leftOut(block.type))
  }
}

function leftOut(what: string): string {
  return `[Content that cannot be shown was left out: ${what}]`
}
