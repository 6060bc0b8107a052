import { SluiceError } from '../core/errors.ts'
import type { Format } from '../core/format.ts'
import type { Delivery } from '../core/preset.ts'
import { requestReader, type StreamOptions } from '../core/request.ts'
import { type FormatName, formats } from '../formats/registry.ts'
import type { View } from './attach.ts'

export type ViewOptions = Pick<StreamOptions, 'format' | 'smooth'>

/** Reads requests for streams in any of the formats. */
export const streamReader = requestReader(Object.keys(formats))

/** What the client has chosen, and of what he has not what his preset says as far as it goes together with it. */
export function chosenBy({ format, smooth }: ViewOptions, delivery: Delivery): ViewOptions {
  const named = format ?? delivery.format
  return { format: named, smooth: smooth ?? (formatOf(named).smoothable ? delivery.smooth : undefined) }
}

/** @throws SluiceError `invalid_request` when the format's text is not for people to read */
export function viewOf({ format, smooth }: ViewOptions): View {
  const named = formatOf(format)
  if (smooth && !named.smoothable) {
    const smoothable = Object.values<Format>(formats).filter((each) => each.smoothable)
    const names = smoothable.map(({ name }) => name).join(', ')
    throw new SluiceError('invalid_request', { message: `smooth: works with the formats ${names}` })
  }
  return { format: named, smooth }
}

function formatOf(name = 'json'): Format {
  return formats[name as FormatName]
}
