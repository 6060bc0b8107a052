import { modelsIn, toolsIn } from '../core/caps.ts'
import { SluiceError } from '../core/errors.ts'
import { isObject } from '../core/object.ts'
import type { MessageRequest } from '../core/request.ts'
import type { Price } from '../core/usage.ts'

/**
 * What a request may be billed at. A client can name more models than the one that answers, in `fallbacks` and in tools
 * that ask one, and a speed that costs more: what has no price must not be free, nor cheap under another's name.
 * @returns the dearest of all, kind by kind
 * @throws SluiceError `model_without_price`
 */
export function dearestFor(request: MessageRequest, prices: ReadonlyMap<string, Price>): Price {
  const { fallbacks } = request
  for (const each of [request, ...(Array.isArray(fallbacks) ? fallbacks : [])]) {
    const speed = isObject(each) ? each['speed'] : undefined
    if (speed === undefined || speed === null || speed === 'standard') continue
    const message = 'speed: where spending is limited it must be standard, as upstream.prices has no price for another.'
    throw new SluiceError('model_without_price', { message })
  }
  return modelsIn(request, toolsIn(request))
    .map((model) => priceOf(String(model), prices))
    .reduce(dearerOf)
}

function priceOf(model: string, prices: ReadonlyMap<string, Price>): Price {
  const price = prices.get(model)
  if (!price) throw new SluiceError('model_without_price')
  return price
}

function dearerOf(one: Price, other: Price): Price {
  return {
    input: Math.max(one.input, other.input),
    output: Math.max(one.output, other.output),
    cache_read: Math.max(one.cache_read, other.cache_read),
    cache_write_5m: Math.max(one.cache_write_5m, other.cache_write_5m),
    cache_write_1h: Math.max(one.cache_write_1h, other.cache_write_1h),
  }
}
