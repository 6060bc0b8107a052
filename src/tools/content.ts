/** What Sluice puts into a `tool_result`: made anew from what a tool gave, so that Claude takes it. */
export type ContentBlock =
  | { readonly type: 'text'; readonly text: string }
  | {
      readonly type: 'image'
      readonly source: { readonly type: 'base64'; readonly media_type: string; readonly data: string }
    }

/** The images that Claude takes, by their first bytes. */
const imageStarts: readonly (readonly [start: RegExp, mediaType: string])[] = [
  [/^\x89PNG/, 'image/png'],
  [/^\xff\xd8\xff/, 'image/jpeg'],
  [/^GIF8/, 'image/gif'],
  [/^RIFF.{4}WEBP/s, 'image/webp'],
]

export function textBlock(text: string): ContentBlock {
  return { type: 'text', text: text.toWellFormed() }
}

/** Any JSON value as text: strings as they are. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
}

/**
 * An image as Claude takes it, or a note that there was one: a wrong media type or broken base64 would have Claude
 * refuse the whole request.
 */
export function imageBlock(data: unknown): ContentBlock {
  const isBase64 = typeof data === 'string' && data.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(data)
  const start = isBase64 ? Buffer.from(data.slice(0, 16), 'base64').toString('latin1') : ''
  const mediaType = imageStarts.find(([pattern]) => pattern.test(start))?.[1]
  if (mediaType === undefined) return textBlock('[An image of a kind that cannot be shown was left out.]')
  return { type: 'image', source: { type: 'base64', media_type: mediaType, data: data as string } }
}

/** The blocks within `maxBytes`: the text that goes beyond is cut, an image left out, and both are said. */
export function cappedContent(blocks: readonly ContentBlock[], maxBytes: number): ContentBlock[] {
  const kept: ContentBlock[] = []
  let left = maxBytes
  for (const block of blocks) {
    const body = block.type === 'text' ? block.text : block.source.data
    // Claude refuses blocks of empty text.
    if (body === '') continue
    const size = Buffer.byteLength(body)
    if (size <= left) kept.push(block)
    else if (block.type === 'image') kept.push(textBlock('[An image was left out: the result is too large.]'))
    else if (left > 0) kept.push(textBlock(cutText(block.text, left)))
    left = Math.max(0, left - size)
    if (left === 0) break
  }
  return kept
}

const cutNote = '\n[The rest was left out: the result is too large.]'

function cutText(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text).subarray(0, maxBytes)
  // A character that was cut in two ends as a replacement character.
  return bytes.toString().replace(/\ufffd$/, '') + cutNote
}
